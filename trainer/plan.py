"""Make the plan of a run from what is known before anything is rented; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fleet_contracts.samples import ClassList
from fleet_contracts.training import GpuOffer, StartWeights, TrainPlan, TrainStage, VramEstimate
from trainer.errors import TrainerError
from trainer.vram import ModelSize, TrainingShape, estimate_vram

_MIB = 2**20
_RESERVE_SHARE = 0.10
"""Left free on a card: the estimate is not calibrated."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold what a person decides about training; `batch` is the most images a step may hold."""

    name: str = "fine-tune"
    epochs: int = 12
    batch: int = 16
    learning_rate: float = 1e-3
    final_lr_share: float = 0.05
    image_size: int = 320
    freeze_layers: int = 0
    augmentation: Literal["none", "light", "full"] = "light"
    optimizer: str = "AdamW"
    seed: int = 0
    threads: int = 0
    workers: int = 0
    cache: Literal["none", "ram", "disk"] = "ram"
    amp: bool = True


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Hold everything a plan depends on."""

    task_id: str
    run_id: str
    snapshot_id: str
    start: StartWeights
    class_list: ClassList
    train_images: int
    offer: GpuOffer
    recipe: Recipe = field(default_factory=Recipe)
    model: ModelSize = field(default_factory=ModelSize)
    boxes_per_image: float = 8.0
    price_cap: float = 0.0
    deadline: datetime | None = None


def make_plan(inputs: PlanInputs) -> TrainPlan:
    """Return the plan; the same inputs always give the same one.

    The batch is halved until the estimate fits the offered card, and accumulation makes up for it, so that
    the effective batch stays the recipe's.

    Raises:
        TrainerError: there is nothing to train on, or not even one image fits the card.
    """
    if inputs.train_images < 1:
        raise TrainerError(
            expected="at least one training image", got="0", where=f"snapshot {inputs.snapshot_id}"
        )
    recipe = inputs.recipe
    batch, accumulation = _fitting_batch(inputs)
    on_gpu = inputs.offer.gpu_memory_mib > 0
    stage = TrainStage(
        image_size=recipe.image_size, epochs=recipe.epochs, batch=batch, augmentation=recipe.augmentation
    )
    return TrainPlan(
        task_id=inputs.task_id, run_id=inputs.run_id, snapshot_id=inputs.snapshot_id, start=inputs.start,
        class_list=inputs.class_list, recipe=recipe.name, stages=(stage,), accumulation=accumulation,
        amp=recipe.amp and on_gpu, optimizer=recipe.optimizer, learning_rate=recipe.learning_rate,
        final_lr_share=recipe.final_lr_share, freeze_layers=recipe.freeze_layers, cache=recipe.cache,
        workers=recipe.workers, threads=recipe.threads, seed=recipe.seed,
        vram=_estimate(inputs, batch) if on_gpu else None, offer=inputs.offer, price_cap=inputs.price_cap,
        deadline=inputs.deadline,
    )  # fmt: skip


def _fitting_batch(inputs: PlanInputs) -> tuple[int, int]:
    """Return batch and accumulation; a batch is never larger than the data."""
    wanted = min(inputs.recipe.batch, inputs.train_images)
    memory = inputs.offer.gpu_memory_mib * _MIB
    if memory == 0:
        return wanted, 1
    room = memory * (1.0 - _RESERVE_SHARE)
    batch = wanted
    while batch > 1 and _estimate(inputs, batch).peak_bytes > room:
        batch //= 2
    needed = _estimate(inputs, batch).peak_bytes
    if needed > room:
        raise TrainerError(
            expected=f"a card that holds one image of {inputs.recipe.image_size} px ({needed // _MIB} MiB)",
            got=f"{inputs.offer.gpu} with {inputs.offer.gpu_memory_mib} MiB",
            where=inputs.run_id, now="Choose a larger card or a smaller image size.",
        )  # fmt: skip
    return batch, max(round(wanted / batch), 1)


def _estimate(inputs: PlanInputs, batch: int) -> VramEstimate:
    recipe = inputs.recipe
    shape = TrainingShape(
        image_size=recipe.image_size, batch=batch, amp=recipe.amp, optimizer=recipe.optimizer,
        classes=len(inputs.class_list.names), boxes_per_image=inputs.boxes_per_image,
    )  # fmt: skip
    return estimate_vram(inputs.model, shape)
