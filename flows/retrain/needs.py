"""Say what a plan needs of a machine, and which offers will do when its own is gone; pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet_contracts.training import Considered, GpuOffer, TrainPlan
from flows.gpus.outlook import Need, Progress
from trainer.planning.cards import card_of, usable_mib

LONGEST_RUN = timedelta(hours=24)
COLD_MINUTES = 5.0
"""From a launch to the first step, as the renting policy expects it: boot, packages, data, checkpoint."""
UNKNOWN_MINUTES = 60.0
"""Work of a run whose plan predicts nothing."""
LEAST_LEFT = timedelta(minutes=10)
"""A machine is not rented for less: it would end before it has the data."""


def is_late(plan: TrainPlan, now: datetime) -> bool:
    """Tell whether a plan's deadline passed or is too near to begin anything."""
    return plan.deadline is not None and plan.deadline - now < LEAST_LEFT


def costs_nothing(offer: GpuOffer | None) -> bool:
    """Tell whether a machine is known to be free, so that its deadline bounds no bill."""
    return offer is not None and offer.on_demand_price == 0


def need_of(plan: TrainPlan, now: datetime) -> Need:
    """Return what a plan needs of a machine: no less than the one it was made for."""
    minutes = plan.predicted.seconds / 60.0 if plan.predicted else UNKNOWN_MINUTES
    free = costs_nothing(plan.offer)
    return Need(
        task_id=plan.task_id,
        run_id=plan.run_id,
        deadline=plan.deadline or now + LONGEST_RUN,
        has_deadline=plan.deadline is not None and not free,
        price_cap=plan.price_cap,
        work_minutes=minutes,
        cold_start=COLD_MINUTES,
        epoch=minutes / sum(stage.epochs for stage in plan.stages),
        fits=lambda offer: fits(plan, offer),
        speed_of=lambda offer: speed_of(plan, offer) or 1.0,
        spot=plan.spot,
        free=free,
    )


def progress_of(plan: TrainPlan, told: int, saved: tuple[int, int] | None) -> Progress:
    """Return how far a run is.

    Args:
        plan: what is trained.
        told: epochs that were told.
        saved: stage and epoch of the newest whole checkpoint in the bucket; None when there is none.
    """
    each = [stage.epochs for stage in plan.stages]
    kept = sum(each[: saved[0]]) + saved[1] if saved else 0
    return Progress(saved=min(kept / sum(each), 1.0), here=min(max(told, kept) / sum(each), 1.0))


def fits(plan: TrainPlan, offer: GpuOffer) -> bool:
    """Tell whether a run may go on with an offer.

    As many cards, each with at least the planned memory, of a speed that is known next to the planned one. A
    plan for a machine that costs nothing was held against no budget, so it never goes on for money.
    """
    planned = plan.offer
    if planned is None:
        return True
    if costs_nothing(planned) and not costs_nothing(offer):
        return False
    if planned.gpu_count == 0:
        return offer.gpu_count == 0
    if offer.gpu_count != planned.gpu_count or speed_of(plan, offer) is None:
        return False
    # What a card is known to have counts, not what its seller rounds it up to.
    return usable_mib(offer.gpu, offer.gpu_memory_mib) >= usable_mib(planned.gpu, planned.gpu_memory_mib)


def speed_of(plan: TrainPlan, offer: GpuOffer) -> float | None:
    """Return how fast an offer is next to the planned one, None where nobody can say.

    What the planner worked out for the card counts; for one it did not look at, the lesser of the ratios of
    computing rate and memory bandwidth.
    """
    planned = plan.offer
    if planned is None or offer.gpu == planned.gpu or planned.gpu_count == 0:
        return 1.0
    mine, others = _rate(plan, planned.gpu), _rate(plan, offer.gpu)
    if mine and others:
        return others / mine
    card, before = card_of(offer.gpu), card_of(planned.gpu)
    if card is None or before is None:
        return None
    computing = card.tensor / before.tensor if plan.amp else card.fp32 / before.fp32
    return min(computing, card.bandwidth / before.bandwidth)


def _rate(plan: TrainPlan, gpu: str) -> float:
    """Return the images per second that were expected of a card in the way the plan trains, 0 if unknown."""

    def is_meant(row: Considered) -> bool:
        same_way = (row.precision != "fp32") == plan.amp and row.gpu_count == plan.devices
        return row.gpu == gpu and same_way

    return max((row.images_per_second for row in plan.considered if is_meant(row)), default=0.0)
