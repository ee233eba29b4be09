"""Say why no offer will do, by how much, and what the nearest plan would be; pure."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.planning.cards import cards_with, usable_mib
from trainer.planning.choosing import Bounds, Choice, Judged
from trainer.planning.errors import NoOfferFits
from trainer.planning.fitting import MIB, DeviceShare, Fitter, StageFit, card_needed_mib
from trainer.planning.inputs import PlanInputs
from trainer.planning.recipe import StageWish
from trainer.planning.ways import Way
from trainer.planning.words import dollars, duration, memory

_GRID = 32


def refusal(inputs: PlanInputs, choice: Choice, bounds: Bounds, fitter: Fitter | None) -> NoOfferFits:
    """Return the error that tells a person what lacks and what would do."""
    ways = [one.way for one in choice.judged]
    fitting = [one for one in choice.judged if one.way.fits and one.way.lacking is None]
    if fitting:
        return _too_long_or_dear(inputs, fitting, bounds)
    lacking = [way for way in ways if way.lacking is not None]
    if lacking and fitter is not None:
        return _too_small(inputs, lacking, fitter)
    return NoOfferFits(
        expected="a network whose memory is known, for offers with a GPU",
        got=inputs.network.problem or "none that was traced",
        where=inputs.run_id,
        now="Register an origin that ultralytics can read, or train where no GPU is needed.",
    )


def _too_small(inputs: PlanInputs, lacking: Sequence[Way], fitter: Fitter) -> NoOfferFits:
    """Tell of the card that comes closest."""
    way = min(lacking, key=_gap)
    short = way.lacking
    assert short is not None
    each = short.batch // way.devices
    images = "one image" if each == 1 else f"{each} images"
    share = DeviceShare(way.devices, usable_mib(way.offer.gpu, way.offer.gpu_memory_mib), way.precision)
    return NoOfferFits(
        expected=f"a card that holds {images} of {short.wish.image_size} px ({short.needed // MIB} MiB)",
        got=f"{way.offer.gpu} with {way.offer.gpu_memory_mib} MiB",
        where=inputs.run_id,
        now=f"{memory(short.needed - short.room)} are missing. "
        + _nearest(inputs, short.wish, share, fitter),
    )


def _nearest(inputs: PlanInputs, wish: StageWish, share: DeviceShare, fitter: Fitter) -> str:
    """Name the nearest plans: a smaller batch or image on this card, a larger card for this image."""
    told = []
    least = inputs.recipe.memory.least_batch
    if least > 1 and _holds(fitter, wish, 1, share):
        told.append(f"least_batch 1 instead of {least} on this card")
    if share.precision == "fp32" and not inputs.recipe.amp:
        half = DeviceShare(share.devices, share.memory_mib, "fp16")
        if isinstance(fitter.fit(wish, half), StageFit):
            told.append("mixed precision (amp) on this card")
    size = _largest_size(fitter, wish, share)
    if size:
        told.append(f"{size} px on this card")
    needed = card_needed_mib(fitter.estimate(wish, least, share))
    names = [card.name for card in cards_with(needed)][:3]
    larger = f"a card with {memory(needed * MIB)}"
    told.append(f"{larger}, such as {', '.join(names)}" if names else larger)
    return "Nearest plans: " + "; or ".join(told) + "."


def _largest_size(fitter: Fitter, wish: StageWish, share: DeviceShare) -> int:
    """Return the largest image size below the wished one that fits with one image a step, 0 if none does."""
    low, high = 0, wish.image_size // _GRID - 1
    while low < high:
        middle = (low + high + 1) // 2
        smaller = StageWish(middle * _GRID, wish.epochs, wish.augmentation)
        low, high = (middle, high) if _holds(fitter, smaller, 1, share) else (low, middle - 1)
    return low * _GRID


def _holds(fitter: Fitter, wish: StageWish, batch: int, share: DeviceShare) -> bool:
    return card_needed_mib(fitter.estimate(wish, batch, share)) <= share.memory_mib


def _too_long_or_dear(inputs: PlanInputs, fitting: Sequence[Judged], bounds: Bounds) -> NoOfferFits:
    known = [one.way for one in fitting if one.way.seconds > 0]
    wanted = [f"in {duration(bounds.hours * 3600)}"]
    wanted += [f"for {dollars(bounds.dollars)}"] if bounds.dollars is not None else []
    wanted += (
        [f"at {dollars(bounds.dollars_per_hour)} an hour"] if bounds.dollars_per_hour is not None else []
    )
    return NoOfferFits(
        expected="an offer that trains " + " and ".join(wanted),
        got=_closest(known) if known else f"{len(fitting)} that fit; {fitting[0].why}",
        where=inputs.run_id,
        now=_what_would_do(known, bounds),
    )


def _closest(known: Sequence[Way]) -> str:
    fastest = min(known, key=lambda way: way.seconds)
    priced = [way for way in known if way.cost is not None]
    told = f"the fastest takes {_way_words(fastest)}"
    if priced:
        cheapest = min(priced, key=lambda way: (way.cost or 0.0, way.seconds))
        told += "" if cheapest is fastest else f", the cheapest {_way_words(cheapest)}"
    return told


def _way_words(way: Way) -> str:
    cost = "an unknown price" if way.cost is None else dollars(way.cost)
    count = f"{way.devices} x " if way.devices > 1 else ""
    return f"{duration(way.seconds)} for {cost} ({count}{way.offer.gpu})"


def _what_would_do(known: Sequence[Way], bounds: Bounds) -> str:
    """Name the least that has to give: more hours, more dollars, or fewer epochs."""
    told = []
    in_money = [way for way in known if _affordable(way, bounds)]
    if in_money:
        least = min(in_money, key=lambda way: way.seconds)
        told.append(f"{least.seconds / 3600:.1f} h instead of {bounds.hours:g}")
        room = bounds.hours * 3600 - (least.seconds - least.train_seconds)
        epochs = sum(fit.wish.epochs for fit in least.fits)
        fewer = int(epochs * room / least.train_seconds) if least.train_seconds > 0 else 0
        if 0 < fewer < epochs:
            told.append(f"{fewer} epochs instead of {epochs}")
    in_time = [way for way in known if way.seconds <= bounds.hours * 3600 and way.cost is not None]
    if in_time and bounds.dollars is not None:
        cheapest = min(in_time, key=lambda way: way.cost or 0.0)
        told.append(f"{dollars(cheapest.cost or 0.0)} instead of {dollars(bounds.dollars)}")
    if not told:
        return "Give the run more hours or dollars, or enter a price and a run for the card."
    return "Nearest plans: " + "; or ".join(told) + "."


def _affordable(way: Way, bounds: Bounds) -> bool:
    price, cost = way.price.dollars, way.cost
    if bounds.dollars_per_hour is not None and (price is None or price > bounds.dollars_per_hour):
        return False
    return bounds.dollars is None or (cost is not None and cost <= bounds.dollars)


def _gap(way: Way) -> int:
    assert way.lacking is not None
    return way.lacking.needed - way.lacking.room
