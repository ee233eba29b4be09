"""Build inputs of plans: offers, networks, snapshots, finished runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from fleet_contracts.training import EpochMetrics, GpuOffer, RunRecord, StartWeights, TrainPlan
from tests.trainer.scenes import TASK, class_list
from trainer.planning import Finished, Limits, Network, PlanInputs, Recipe, SnapshotSize
from trainer.vram import sketched_profile

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
RUN = "run-0123456789abcdef"
PROFILE = sketched_profile("yolo11n", classes=2).model_copy(update={"flops_per_pixel": 15_400.0})
"""A network like yolo11n, with the work per pixel that a trace of it counts."""
NETWORK = Network("net", PROFILE)


def offer(gpu: str = "some", memory_mib: int = 24_000, **changes: Any) -> GpuOffer:
    """Return an offer of one card, for nothing unless told otherwise; without memory it is a processor."""
    values: dict[str, Any] = {
        "provider": "local", "offer_id": gpu, "gpu": gpu, "gpu_count": int(memory_mib > 0),
        "gpu_memory_mib": memory_mib, "on_demand_price": 0.0, "priced_at": NOON, **changes,
    }  # fmt: skip
    return GpuOffer.model_validate(values)


T4 = offer("T4", 15_360, provider="cloud", on_demand_price=0.35)
A100 = offer("A100", 40_960, provider="cloud", on_demand_price=1.80)
CPU = offer("cpu", 0, region="here", cpu_count=2)


def inputs(*offers: GpuOffer, images: int = 500, recipe: Recipe | None = None, **changes: Any) -> PlanInputs:
    """Return inputs of a plan for 500 images at 640 px and an effective batch of 64."""
    base = PlanInputs(
        task_id=TASK, run_id=RUN, snapshot_id="a" * 64,
        start=StartWeights(kind="origin", sha256="b" * 64, key="start"), class_list=class_list(),
        data=SnapshotSize(images, val_images=100, size_bytes=images * 200_000, pixels=1280 * 960.0),
        offers=offers or (offer(),), now=NOON, recipe=recipe or Recipe(image_size=640, batch=64),
        network=NETWORK,
    )  # fmt: skip
    return replace(base, **changes)


def limited(base: PlanInputs, **limits: Any) -> PlanInputs:
    """Return inputs with limits."""
    return replace(base, limits=Limits(**limits))


def effective(plan: TrainPlan) -> set[int]:
    """Return the effective batches of a plan's stages."""
    return {stage.batch * (stage.accumulation or plan.accumulation) for stage in plan.stages}


def finished(plan: TrainPlan, images_per_second: float, *, key: str = "net", peak: int = 0) -> Finished:
    """Return a run of a plan that trained at one rate and reserved so many bytes at its peak."""
    rows = []
    for stage in plan.stages:
        for _ in range(stage.epochs):
            rows.append(EpochMetrics(
                epoch=len(rows) + 1, seconds=10.0, images_per_second=images_per_second, learning_rate=1e-3,
                losses={}, peak_memory_bytes=peak, image_size=stage.image_size, batch=stage.batch,
            ))  # fmt: skip
    record = RunRecord(
        task_id=plan.task_id, run_id=plan.run_id, snapshot_id=plan.snapshot_id, state="finished", seed=0,
        versions={}, device="x", started_at=NOON, ended_at=NOON + timedelta(seconds=10 * len(rows) + 30),
        epochs=tuple(rows),
    )  # fmt: skip
    return Finished(key, plan, record)
