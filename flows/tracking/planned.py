"""Flatten a plan into names and words, for tables and for the parameters of a tracking store: pure."""

from __future__ import annotations

from fleet_contracts.training import GpuOffer, TrainPlan, TrainStage
from flows.tracking import words


def plan_words(plan: TrainPlan) -> dict[str, str]:
    """Return what a plan fixed, each thing once; what it predicts is told beside what came of it."""
    offer = plan.offer
    return {
        "recipe": plan.recipe,
        "tier": plan.tier,
        "start": f"{plan.start.kind} {plan.start.sha256[:12]}",
        "snapshot": plan.snapshot_id,
        "classes": ", ".join(plan.class_list.names),
        "stages": "; ".join(_stage(stage, plan) for stage in plan.stages),
        "optimizer": plan.optimizer,
        "learning_rate": f"{plan.learning_rate:g}",
        "final_lr_share": f"{plan.final_lr_share:g}",
        "amp": _yes(plan.amp),
        "freeze_layers": str(plan.freeze_layers),
        "cache": plan.cache,
        "workers": str(plan.workers),
        "threads": str(plan.threads),
        "devices": str(plan.devices),
        "compile": _yes(plan.compile),
        "deterministic": _yes(plan.deterministic),
        "seed": str(plan.seed),
        "precisions": ", ".join(plan.precisions),
        "gpu": _gpu(offer) if offer else "",
        "provider": offer.provider if offer else "",
        "on_demand_price": _price(offer.on_demand_price if offer else None),
        "spot_price": _price(offer.spot_price if offer else None),
        "spot": _yes(plan.spot),
        "price_cap": _price(plan.price_cap or None),
    }


def _gpu(offer: GpuOffer) -> str:
    return f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count else offer.gpu


def _stage(stage: TrainStage, plan: TrainPlan) -> str:
    steps = stage.accumulation or plan.accumulation
    batch = f"{stage.batch}x{steps}" if steps > 1 else str(stage.batch)
    return (
        f"{words.count(stage.epochs, 'epoch')} at {stage.image_size} px, batch {batch}, {stage.augmentation}"
    )


def _price(value: float | None) -> str:
    return "" if value is None else f"{words.dollars(value)} an hour"


def _yes(value: bool) -> str:  # noqa: FBT001 - the one thing it says
    return "yes" if value else "no"
