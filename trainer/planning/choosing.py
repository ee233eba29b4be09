"""Choose the cheapest way that keeps deadline and price, and say of every other why it lost; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from fleet_contracts.training import Considered
from trainer.planning.ways import Way
from trainer.planning.words import dollars, duration, memory

MOST_ROWS = 24
_LEAST_LOSERS = 8
"""Rows kept for ways that may not be taken, so that a person sees why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bound a run: hours of all of it, whether a person set them, dollars of it and of an hour."""

    hours: float
    hours_asked: bool = False
    dollars: float | None = None
    dollars_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a way and why it may not be taken; an empty reason means that it may.

    `late` marks a way that may be taken though it is expected to end past the hours: it costs nothing, and
    nobody asked for them.
    """

    way: Way
    why: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold the way that was chosen, None if none may be taken, and all that were judged, best first."""

    chosen: Judged | None
    judged: tuple[Judged, ...]


def choose(ways: Sequence[Way], bounds: Bounds, problem: str = "") -> Choice:
    """Judge every way and choose; `problem` says why memory is unknown where it is.

    The cheapest wins; what is expected to be late comes after what is not, an unknown cost after known
    ones, and of two that cost the same the faster.
    """
    judged = sorted((judge(way, bounds, problem) for way in ways), key=_rank)
    allowed = [one for one in judged if not one.why]
    return Choice(allowed[0] if allowed else None, tuple(judged))


def judge(way: Way, bounds: Bounds, problem: str = "") -> Judged:
    """Say whether a way may be taken, and if not, why: memory first, then money, then time."""
    why = _memory_problem(way, problem) or _money_problem(way, bounds)
    if why:
        return Judged(way, why)
    free = way.price.dollars == 0.0
    limit = bounds.hours * 3600
    if way.basis not in ("measured", "modelled"):
        # A guess refuses nothing that is free; what costs money by the hour must be known to end in time.
        if bounds.hours_asked and not free:
            return Judged(way, f"speed unknown: no run on it yet, and {duration(limit)} have to be kept")
        return Judged(way, late=way.seconds > limit)
    if way.seconds <= limit:
        return Judged(way)
    told = f"takes {duration(way.seconds)} of {duration(limit)}"
    return Judged(way, late=True) if free and not bounds.hours_asked else Judged(way, told)


def rows_of(choice: Choice) -> tuple[Considered, ...]:
    """Return the rows people are shown: the chosen way, the best others, and some that may not be taken."""
    able = [one for one in choice.judged if not one.why]
    unable = [one for one in choice.judged if one.why]
    kept_unable = min(len(unable), max(_LEAST_LOSERS, MOST_ROWS - len(able)))
    kept = [*able[: MOST_ROWS - kept_unable], *unable[:kept_unable]]
    return tuple(_row(one, choice) for one in kept)


def _memory_problem(way: Way, problem: str) -> str:
    if way.lacking is not None:
        lacking, each = way.lacking, way.lacking.batch // way.devices
        images = "1 image needs" if each == 1 else f"{each} images need"
        return (
            f"{images} {memory(lacking.needed)} at {lacking.wish.image_size} px, {memory(lacking.room)} free"
        )
    if not way.fits:
        return f"memory unknown: {problem or 'the network was not traced'}"
    return ""


def _money_problem(way: Way, bounds: Bounds) -> str:
    price, most, whole = way.price.dollars, bounds.dollars_per_hour, bounds.dollars
    if price is None:
        return "price unknown, and a limit is set" if (most, whole) != (None, None) else ""
    if most is not None and price > most:
        return f"{dollars(price)} an hour, over the cap of {dollars(most)}"
    if whole is None or price == 0.0:
        return ""
    if way.cost is None:
        return f"cost unknown: no run on it yet, and a budget of {dollars(whole)} is set"
    return f"costs {dollars(way.cost)} of {dollars(whole)}" if way.cost > whole else ""


def _rank(one: Judged) -> tuple[object, ...]:
    way = one.way
    cost, price = way.cost, way.price.dollars
    return (
        bool(one.why), one.late, cost is None, inf if cost is None else cost,
        inf if price is None else price, way.seconds or inf,
        # Where no speed is known, mixed precision and all the devices of an offer are the faster bet.
        way.precision == "fp32", -way.devices, way.peak_bytes,
        way.offer.provider, way.offer.offer_id, way.precision, way.price.spot,
    )  # fmt: skip


def _row(one: Judged, choice: Choice) -> Considered:
    way = one.way
    last = way.fits[-1] if way.fits and way.lacking is None else None
    return Considered(
        gpu=way.offer.gpu, gpu_count=way.devices if way.offer.gpu_memory_mib else 0,
        provider=way.offer.provider, offer_id=way.offer.offer_id, spot=way.price.spot,
        precision=way.precision, batch=last.batch if last else 0,
        accumulation=last.accumulation if last else 0, peak_bytes=way.peak_bytes,
        images_per_second=round(way.rate, 2), seconds=round(way.seconds, 1), basis=way.basis,
        cost=None if way.cost is None else round(way.cost, 4), chosen=one is choice.chosen,
        why=one.why or _beaten(one, choice),
    )  # fmt: skip


def _beaten(one: Judged, choice: Choice) -> str:
    best = choice.chosen
    assert best is not None
    if one is best:
        others = sum(not other.why for other in choice.judged) - 1
        return "the only way that fits" if others == 0 else f"the best of {others + 1} that fit"
    way, winner = one.way, best.way
    if one.late and not best.late:
        return f"expected to take {duration(way.seconds)}, past the deadline"
    if way.cost is None:
        return "cost unknown" if winner.cost is not None else _longer(way, winner)
    if winner.cost is not None and way.cost > winner.cost:
        return f"costs {dollars(way.cost)}, {dollars(way.cost - winner.cost)} more"
    return _longer(way, winner)


def _longer(way: Way, winner: Way) -> str:
    if way.price.dollars is not None and winner.price.dollars is not None and way.cost is None:
        more = way.price.dollars - winner.price.dollars
        if more > 0:
            return f"{dollars(more)} an hour more"
    if way.seconds > winner.seconds > 0:
        return f"as cheap, takes {duration(way.seconds - winner.seconds)} longer"
    if winner.seconds > 0 and way.seconds == 0:
        return "as cheap, speed unknown"
    return "as good; the other takes less memory or comes first by name"
