"""Say what a plan counts on of its machine; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fleet_contracts.training import GpuOffer, SnapshotMember, TrainPlan, TrainTicket
from trainer.fitness.facts import Already, Need
from trainer.planning.cards import usable_mib

LEAST_DATA_SECONDS = 600.0
"""Time for the data that is always granted: a short training may take longer to feed than to do."""
DATA_SHARE = 0.5
"""Share of the training's own time that the data may take; above it a card is paid for waiting."""
_WEIGHTS_KEPT = 12
"""Files of the start weights' size a run keeps: checkpoints with their optimizer, results, formats."""
_SPARE_BYTES = 512 << 20


def promised(text: str, planned: GpuOffer) -> GpuOffer:
    """Return the planned offer with what was rented in its place; as it is where the text names nothing.

    >>> t4 = GpuOffer.model_construct(gpu="T4", gpu_count=1)
    >>> promised("cloud-b 2 24576 65536 RTX 3090", t4).gpu, promised("", t4).gpu
    ('RTX 3090', 'T4')
    """
    parts = text.split(" ", 4)
    if len(parts) != 5 or not all(part.isdecimal() for part in parts[1:4]):
        return planned
    count, card, own = map(int, parts[1:4])
    changed = {"provider": parts[0], "gpu_count": count, "gpu_memory_mib": card, "memory_mib": own}
    return planned.model_copy(update={**changed, "gpu": parts[4]})


def need_of(
    plan: TrainPlan, ticket: TrainTicket, members: Sequence[SnapshotMember], now: datetime, here: Already
) -> Need:
    """Return what the plan counts on.

    Args:
        plan: the run.
        ticket: names the objects to fetch and their sizes.
        members: images that are staged.
        now: the present moment.
        here: what earlier starts left.
    """
    data = sum(one.size_bytes for one in (*ticket.shards, ticket.start_weights))
    offer = plan.offer
    cards = plan.devices if offer is not None and offer.gpu_memory_mib > 0 else 0
    return Need(
        cards=cards,
        gpu=offer.gpu if offer is not None else "",
        promised_mib=usable_mib(offer.gpu, offer.gpu_memory_mib) if offer is not None else 0,
        peak_bytes=_peak(plan),
        memory_mib=offer.memory_mib if offer is not None else 0,
        disk_bytes=max(_disk(plan, ticket, members) - here.cached - here.staged, 0) + _SPARE_BYTES,
        data_bytes=max(data - max(here.cached, here.staged), 0),
        data_seconds=_data_seconds(plan, now, here.done),
    )


def _peak(plan: TrainPlan) -> int:
    stages = [one.vram.peak_bytes for one in plan.stages if one.vram is not None]
    return max([*stages, plan.vram.peak_bytes if plan.vram is not None else 0])


def _disk(plan: TrainPlan, ticket: TrainTicket, members: Sequence[SnapshotMember]) -> int:
    """Return bytes of disk: shards, the images out of them, decoded ones where those are cached, results."""
    shards = sum(one.size_bytes for one in ticket.shards)
    decoded = sum(one.width * one.height * 3 for one in members) if plan.cache == "disk" else 0
    return 2 * shards + decoded + _WEIGHTS_KEPT * ticket.start_weights.size_bytes


def _data_seconds(plan: TrainPlan, now: datetime, done: float) -> float:
    """Return how long the data may take beside the training that is left.

    A deadline that is near is no machine's fault: whoever rents weighs it, and what is always granted is.
    """
    train = plan.predicted.train_seconds or plan.predicted.seconds if plan.predicted is not None else 0.0
    granted = max(LEAST_DATA_SECONDS, DATA_SHARE * train)
    if plan.deadline is None:
        return granted
    spare = (plan.deadline - now).total_seconds() - (1.0 - done) * train
    return max(LEAST_DATA_SECONDS, min(granted, spare))
