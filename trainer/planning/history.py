"""Learn from finished runs: how fast a network trained on a machine, and what memory it really took; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, median

from fleet_contracts.training import GpuOffer, RunEvent, TrainPlan, VramEstimate
from trainer.planning.cards import card_of
from trainer.planning.inputs import Finished
from trainer.planning.throughput import Setup

AGREEING_RUNS = 3
AGREEMENT = 0.10
"""An estimate is lowered only if so many stages have seen less, within this span of each other."""
MOST_FACTOR = 3.0
"""A run that took more than this next to its estimate met something else on its card."""
_WARM_EPOCHS = 1
"""The first epoch of a stage fills caches and chooses kernels."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what one stage of a run measured."""

    machine: str
    key: str
    setup: Setup
    images_per_second: float


def machine_of(offer: GpuOffer) -> str:
    """Name what decides a machine's speed: the card, or for a processor the very machine."""
    if offer.gpu_memory_mib == 0:
        return f"cpu/{offer.provider}/{offer.region}"
    card = card_of(offer.gpu)
    return card.name if card is not None else offer.gpu.strip().lower()


def measured_stages(runs: Iterable[Finished]) -> tuple[Measured, ...]:
    """Return what the stages of finished runs measured, in the order given.

    A stage whose batch changed on the way (a rung, a cure) counts with the epochs of its last batch.
    """
    return tuple(one for run in runs if run.plan.offer is not None for one in _stages_of(run))


def learned_rate(
    known: Iterable[Measured], machine: str, key: str, wanted: tuple[Setup, Callable[[Setup], float]]
) -> tuple[float, int] | None:
    """Return images per second by what was measured, and by how many stages; None if nothing was.

    Args:
        known: what stages measured.
        machine: as `machine_of` names it.
        key: the network.
        wanted: how it is to train, and a model of the rate, which carries what was measured to other sizes,
            batches and device counts. Stages of the same size and devices go before all others.
    """
    setup, model = wanted
    fitting = [one for one in known if (one.machine, one.key) == (machine, key)]
    same = [
        one
        for one in fitting
        if (one.setup.image_size, one.setup.devices) == (setup.image_size, setup.devices)
    ]
    used = same or fitting
    ratios = [one.images_per_second / model(one.setup) for one in used if model(one.setup) > 0]
    if not ratios or model(setup) <= 0:
        return None
    return model(setup) * fmean(ratios), len(ratios)


def learned_memory(runs: Iterable[Finished], key: str) -> tuple[float, str]:
    """Return by what to multiply estimates of a network, and why.

    Never below one for safety, unless several runs agree that less is taken; above one as soon as a single
    run took more than was predicted.
    """
    shares = [share for run in runs if run.key == key for share in _memory_shares(run)]
    if not shares:
        return 1.0, ""
    most = min(max(shares), MOST_FACTOR)
    if most > 1.0:
        return most, f"memory x {most:.2f}: a run took that much more than predicted"
    if len(shares) >= AGREEING_RUNS and max(shares) - min(shares) <= AGREEMENT:
        return most, f"memory x {most:.2f}: {len(shares)} stages took at most that"
    return 1.0, ""


def learned_overhead(runs: Iterable[Finished], provider: str) -> float | None:
    """Return the seconds of a run that no epoch took, as the median over undisturbed runs of a provider."""
    rests = []
    for run in runs:
        record, offer = run.record, run.plan.offer
        if offer is None or offer.provider != provider or record.resumes or record.ended_at is None:
            continue
        whole = (record.ended_at - record.started_at).total_seconds()
        rests.append(max(whole - sum(epoch.seconds for epoch in record.epochs), 0.0))
    return median(rests) if rests else None


def _stages_of(run: Finished) -> Iterable[Measured]:
    plan, done = run.plan, 0
    assert plan.offer is not None
    for stage in plan.stages:
        rows = run.record.epochs[done : done + stage.epochs]
        done += stage.epochs
        if not rows:
            return
        last = rows[-1].batch or stage.batch
        size = rows[-1].image_size or stage.image_size
        kept = [row for row in rows if (row.batch or stage.batch) == last][_WARM_EPOCHS:] or [rows[-1]]
        rate = median(row.images_per_second for row in kept)
        if rate > 0:
            setup = Setup(
                size, max(last // plan.devices, 1), plan.devices, _precision_of(plan),
                mosaic=stage.augmentation in ("full", "heavy"), frozen_layers=plan.freeze_layers,
                cores=plan.offer.cpu_count,
            )  # fmt: skip
            yield Measured(machine_of(plan.offer), run.key, setup, rate)


def _precision_of(plan: TrainPlan) -> str:
    card = card_of(plan.offer.gpu) if plan.offer is not None else None
    if not plan.amp:
        return "fp32"
    return "bf16" if card is not None and card.bf16 else "fp16"


def _memory_shares(run: Finished) -> Iterable[float]:
    """Return seen next to predicted: from stages without a rung, and from what made a run take one."""
    for event in run.record.rungs:
        share = _rung_share(run.plan, event)
        if share is not None:
            yield share
    if run.record.rungs:
        return
    done = 0
    for stage in run.plan.stages:
        rows = run.record.epochs[done : done + stage.epochs]
        done += stage.epochs
        planned = [row for row in rows if row.batch in (0, stage.batch)]
        peak = max((row.peak_memory_bytes for row in planned), default=0)
        if stage.vram is not None and peak > 0:
            yield (peak + _context(stage.vram)) / _own_prediction(stage.vram)


def _rung_share(plan: TrainPlan, event: RunEvent) -> float | None:
    told = event.data
    number = told.get("stage", 0)
    if told.get("kind") != "device" or told.get("foreseen") or not isinstance(number, int):
        return None
    vram = plan.stages[number].vram if number < len(plan.stages) else None
    needed = _number(told.get("seen_bytes")) + _number(told.get("asked_bytes"))
    if told.get("moment") != "watch":
        # Where memory really ran out, more than there was had been needed, whatever was seen of it.
        needed = max(needed, _number(told.get("limit_bytes")))
    if vram is None or needed <= 0:
        return None
    return (needed + _context(vram)) / _own_prediction(vram)


def _context(vram: VramEstimate) -> int:
    """Return what the card gives beside the allocator, which is all that a process sees of itself."""
    return vram.terms.get("context", 0)


def _own_prediction(vram: VramEstimate) -> float:
    """Return the estimate without what earlier runs had changed of it, so that factors do not multiply."""
    return max(vram.peak_bytes / vram.learned, 1.0)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
