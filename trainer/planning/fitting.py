"""Find the largest batch of a stage that a device holds, at an effective batch that never changes; pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fleet_contracts.training import VramEstimate
from trainer.planning.cards import usable_mib
from trainer.planning.inputs import PlanInputs
from trainer.planning.recipe import StageWish, frozen_layers_of
from trainer.vram import ModelProfile, TrainingShape, estimate_vram
from trainer.vram.cards import RESERVE
from trainer.vram.shape import Precision

MIB = 2**20
RESERVE_CONFIRMED = 0.05
"""Left free of a card by a calibrated estimate, which may lie 2 % under the peak."""
_MOSAIC_BOXES = 3
"""Boxes of the fullest mosaic next to the fullest single image: four images, partly cropped."""


@dataclass(frozen=True, slots=True)
class StageFit:
    """Hold how a stage runs: `batch` is over all devices, `vram` of one device, None on a processor."""

    wish: StageWish
    batch: int
    accumulation: int
    vram: VramEstimate | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Say that not even the smallest batch of a stage fits: what it needs and what there is, in bytes."""

    wish: StageWish
    batch: int
    needed: int
    room: int


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """Say on what a stage is to fit: devices of so many MiB each, and the number format."""

    devices: int
    memory_mib: int
    precision: str


class Fitter:
    """Answer what fits; each estimate is made once, whatever number of offers asks for it.

    Args:
        inputs: what the plan depends on; its network must have a profile.
        factor: by what finished runs change every estimate.
    """

    def __init__(self, inputs: PlanInputs, factor: float = 1.0) -> None:
        profile = inputs.network.profile
        assert profile is not None
        self._profile: ModelProfile = profile
        self._inputs = inputs
        self._factor = factor
        self._known: dict[TrainingShape, VramEstimate] = {}

    def fit(self, wish: StageWish, share: DeviceShare) -> StageFit | TooLarge:
        """Return the largest batch that fits with its reserve; accumulation makes up for what it lacks."""
        effective = effective_batch(self._inputs)
        least = self._inputs.recipe.memory.least_batch
        steps = [one for one in divisors(effective // share.devices) if one >= least] or [
            effective // share.devices
        ]
        # The estimate grows with the batch, so the largest that fits is found by halving the list.
        low, high = 0, len(steps)
        while low < high:
            middle = (low + high) // 2
            if self._fits(wish, steps[middle], share):
                low = middle + 1
            else:
                high = middle
        if low == 0:
            estimate = self.estimate(wish, steps[0], share)
            return TooLarge(wish, steps[0] * share.devices, estimate.peak_bytes, _room(estimate, share))
        batch = steps[low - 1]
        total = batch * share.devices
        return StageFit(wish, total, effective // total, self.estimate(wish, batch, share))

    def estimate(self, wish: StageWish, batch: int, share: DeviceShare) -> VramEstimate:
        """Return the peak of one device with `batch` images on it."""
        shape = self._shape(wish, batch, share)
        if shape not in self._known:
            found = estimate_vram(self._profile, shape, self._inputs.network.calibration)
            self._known[shape] = _learned(found, self._factor)
        return self._known[shape]

    def _fits(self, wish: StageWish, batch: int, share: DeviceShare) -> bool:
        estimate = self.estimate(wish, batch, share)
        return estimate.peak_bytes <= _room(estimate, share)

    def _shape(self, wish: StageWish, batch: int, share: DeviceShare) -> TrainingShape:
        recipe, data = self._inputs.recipe, self._inputs.data
        mosaic = wish.augmentation in ("full", "heavy")
        most = data.boxes_most
        return TrainingShape(
            image_size=wish.image_size, batch=batch, precision=_format(share.precision),
            optimizer=recipe.optimizer, classes=self._profile.classes, boxes_per_image=data.boxes_mean,
            # Two devices exchange gradients as eight do, a second accumulated step takes what a tenth does.
            devices=min(share.devices, 2), freeze_layers=frozen_layers_of(recipe), mosaic=mosaic,
            compile=recipe.compile == "on", validate=recipe.validate_every > 0,
            accumulation=min(max(effective_batch(self._inputs) // (batch * share.devices), 1), 2),
            most_boxes=None if most is None else most * (_MOSAIC_BOXES if mosaic else 1),
            box_area=data.box_area,
        )  # fmt: skip


def effective_batch(inputs: PlanInputs) -> int:
    """Return what one step of the optimizer sees: the recipe's batch, never more than there are images."""
    return max(min(inputs.recipe.batch, inputs.data.train_images), 1)


def divisors(number: int) -> list[int]:
    """Return the divisors of a number, smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [one for one in range(1, number + 1) if number % one == 0]


def device_counts(inputs: PlanInputs, offered: int) -> list[int]:
    """Return over how many devices the effective batch can be split evenly, up to those offered."""
    return [count for count in divisors(effective_batch(inputs)) if count <= offered]


def reserve_of(estimate: VramEstimate) -> float:
    """Return the share of a card that stays free beside an estimate."""
    return RESERVE_CONFIRMED if estimate.confirmed else RESERVE


def card_needed_mib(estimate: VramEstimate) -> int:
    """Return the memory a card must have for an estimate and its reserve."""
    return ceil(estimate.peak_bytes / (1.0 - reserve_of(estimate)) / MIB)


def share_of(gpu: str, memory_mib: int, devices: int, precision: str) -> DeviceShare:
    """Return on what a stage is to fit on a card that an offer names."""
    return DeviceShare(devices, usable_mib(gpu, memory_mib), precision)


def _room(estimate: VramEstimate, share: DeviceShare) -> int:
    return int(share.memory_mib * MIB * (1.0 - reserve_of(estimate)))


def _format(name: str) -> Precision:
    return "bf16" if name == "bf16" else "fp16" if name == "fp16" else "fp32"


def _learned(estimate: VramEstimate, factor: float) -> VramEstimate:
    if factor == 1.0:
        return estimate
    terms = {name: ceil(size * factor) for name, size in estimate.terms.items()}
    return estimate.model_copy(update={"terms": terms, "peak_bytes": sum(terms.values()), "learned": factor})
