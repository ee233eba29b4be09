"""Let a policy rent in a world, minute by minute, and count what it paid, lost and when it was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.gpus.market.climate import Work
from flows.gpus.market.world import World
from flows.gpus.spot import Move, Offer, Situation

Policy = Callable[[Situation], Move]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold how a run went: dollars, minutes; `done_at` None when it never ended."""

    cost: float
    done_at: int | None
    lost_minutes: int
    preemptions: int
    starts: int
    deadline: int

    @property
    def is_late(self) -> bool:
        """Tell whether the deadline was missed."""
        return self.done_at is None or self.done_at > self.deadline


@dataclass(slots=True)
class _Run:
    """Hold a run in progress; minutes of work done, saved, and of the start that are left."""

    here: str = ""
    done: int = 0
    saved: int = 0
    cold: int = 0
    cost: float = 0.0
    lost: int = 0
    preemptions: int = 0
    starts: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    lived: Counter[str] = field(default_factory=Counter)


def play(world: World, work: Work, policy: Policy) -> Outcome:
    """Play a run to its end, or to the end of the world.

    A decision is taken at the start of a minute on what is seen then. A spot machine whose place runs out of
    machines is gone without notice, with all work since the last uploaded epoch. A part of an hour costs its
    part of the price, the start included.
    """
    run = _Run()
    for minute in range(world.minutes):
        offers = _offers(world, minute, run)
        _preempt(run, offers)
        _act(run, work, policy(_situation(run, work, minute, tuple(offers.values()))), offers)
        if run.here:
            _work(run, work, offers[run.here].price)
        if run.done >= work.minutes:
            return _outcome(run, work, minute + 1)
    return _outcome(run, work, None)


def _offers(world: World, minute: int, run: _Run) -> dict[str, Offer]:
    found = {}
    for place in range(world.places):
        name = f"spot-{place}"
        price, has = float(world.spot_price[place, minute]), bool(world.has_spot[place, minute])
        found[name] = Offer(name, True, price, has, run.deaths[name], run.lived[name])
        steady = f"on-demand-{place}"
        found[steady] = Offer(steady, False, world.on_demand[place])
    return found


def _preempt(run: _Run, offers: dict[str, Offer]) -> None:
    if run.here and not offers[run.here].available:
        run.deaths[run.here] += 1
        run.preemptions += 1
        _leave(run)


def _leave(run: _Run) -> None:
    run.lost += run.done - run.saved
    run.done, run.here, run.cold = run.saved, "", 0


def _situation(run: _Run, work: Work, minute: int, offers: tuple[Offer, ...]) -> Situation:
    return Situation(
        time_left=work.deadline - minute,
        work_saved=work.minutes - run.saved,
        work_here=work.minutes - run.done,
        cold_start=work.cold_start,
        epoch=work.epoch,
        here=run.here,
        cold_left=run.cold,
        offers=offers,
    )


def _act(run: _Run, work: Work, move: Move, offers: dict[str, Offer]) -> None:
    if move.kind == "wait" and run.here:
        _leave(run)
    if move.kind != "rent" or move.offer == run.here or not offers[move.offer].available:
        return
    if run.here:
        _leave(run)
    run.here, run.cold, run.starts = move.offer, work.cold_start, run.starts + 1


def _work(run: _Run, work: Work, price: float) -> None:
    run.cost += price / 60.0
    run.lived[run.here] += 1
    if run.cold:
        run.cold -= 1
        return
    run.done += 1
    if run.done % work.epoch == 0 or run.done >= work.minutes:
        run.saved = run.done


def _outcome(run: _Run, work: Work, done_at: int | None) -> Outcome:
    return Outcome(run.cost, done_at, run.lost, run.preemptions, run.starts, work.deadline)
