"""Gather the inputs of a plan: snapshot, offers of every provider, finished runs, the network.

(1) what is offered; a provider that is away is left out while another one answers
(2) how much there is to train on
(3) what the start descends from, and what earlier runs of that network showed
(4) the network itself, traced only where an offer has a GPU or a person wants to see it
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, SnapshotMember
from flows.context import Context
from flows.errors import CannotStart
from flows.gpus.base import GpuProvider
from flows.gpus.errors import ProviderAway, TokenRefused
from flows.planning.lineage import lineage_of
from flows.planning.networks import traced, untraced
from flows.planning.past_runs import finished_runs
from flows.retrain.runs import Start
from flows.settings import LimitSettings
from flows.snapshots.cut import Snapshot
from trainer.planning import Limits, PlanInputs, Recipe, SnapshotSize
from trainer.planning.cards import too_old
from trainer.planning.recipe import frozen_layers_of

log = logging.getLogger("whetstone.planning")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say for which run a plan is wanted."""

    run_id: str
    snapshot: Snapshot
    start: Start
    recipe: Recipe


def gather(
    ctx: Context, task_id: str, wanted: Wanted, offers: Sequence[GpuOffer], *, trace: bool = False
) -> PlanInputs:
    """Return the inputs of a plan; `trace` asks for the network though no offer has a GPU."""
    # (2)
    class_list = wanted.snapshot.header.class_list
    data = size_of(wanted.snapshot.members)
    # (3)
    lineage = lineage_of(ctx, task_id, wanted.start.weights.sha256)
    history = finished_runs(ctx, task_id)
    # (4)
    size = wanted.start.size_bytes
    if trace or any(offer.gpu_memory_mib > 0 for offer in offers):
        frozen = frozen_layers_of(wanted.recipe)
        network = traced(ctx, lineage, class_list, weights_bytes=size, freeze_layers=frozen)
    else:
        network = untraced(lineage, size)
    return PlanInputs(
        task_id=task_id,
        run_id=wanted.run_id,
        snapshot_id=wanted.snapshot.snapshot_id,
        start=wanted.start.weights,
        class_list=class_list,
        data=data,
        offers=tuple(offers),
        now=utc_now(),
        recipe=wanted.recipe,
        network=network,
        limits=_limits(ctx.settings.task(task_id).limits),
        history=history,
    )


def offers_of(lenders: Iterable[GpuProvider]) -> tuple[GpuOffer, ...]:
    """Return what every provider offers.

    Raises:
        ProviderAway, TokenRefused: none of them answers.
        CannotStart: they answer and offer nothing.
    """
    # (1)
    found: list[GpuOffer] = []
    away: ProviderAway | TokenRefused | None = None
    names = []
    for lender in lenders:
        names.append(lender.name)
        try:
            offered = lender.offers()
        except (ProviderAway, TokenRefused) as error:
            log.warning("planning.provider_away provider=%s error=%s", lender.name, error)
            away = error
            continue
        found.extend(offered if not lender.traits.elsewhere else _young_enough(offered))
    if not found and away is not None:
        raise away
    if not found:
        raise CannotStart(expected="a machine on offer", got="none", where=", ".join(names) or "no provider")
    return tuple(found)


def _young_enough(offers: Iterable[GpuOffer]) -> Iterator[GpuOffer]:
    """Yield the offers on which the trainer's image runs; a machine of our own may have another torch."""
    for offer in offers:
        why = too_old(offer.gpu)
        if not why:
            yield offer
        else:
            log.info("planning.card_too_old offer=%s gpu=%s why=%s", offer.offer_id, offer.gpu, why)


def size_of(members: Iterable[SnapshotMember]) -> SnapshotSize:
    """Return how much a snapshot gives to train on; golden images stay out."""
    used = [member for member in members if member.split != "golden"]
    train = [member for member in used if member.split == "train"]
    boxes = [box for member in train for box in member.boxes]
    count = max(len(train), 1)
    return SnapshotSize(
        train_images=len(train),
        val_images=len(used) - len(train),
        size_bytes=sum(member.size_bytes for member in used),
        pixels=sum(member.width * member.height for member in used) / max(len(used), 1),
        boxes_mean=len(boxes) / count,
        boxes_most=max((len(member.boxes) for member in train), default=0),
        box_area=min(sum(box.width * box.height for box in boxes) / max(len(boxes), 1), 1.0),
    )


def _limits(limits: LimitSettings) -> Limits:
    return Limits(limits.hours, limits.dollars, limits.dollars_per_hour, limits.spot)
