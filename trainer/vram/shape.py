"""Say what a training step holds, and what that makes of the quantities that sizes depend on; pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]

_MOSAIC_TOTAL, _MOSAIC_MOST = 2.0, 3.0
"""Boxes of a mosaic next to those of one image, on average and in the fullest: four images, partly cropped.

Not measured on a fleet's data; `most_boxes` says it exactly where a person knows.
"""
_TAIL = 3.0
"""Standard deviations (of a Poisson count) by which the fullest image of a run exceeds the mean."""


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """Describe one device's training step.

    `batch` is per device. `boxes_per_image` is the data's mean; `most_boxes` the most one (augmented) image
    holds, by default a tail bound. `box_area` is the share of the image a box covers on average.
    `classes` None takes the profile's. `accumulation` above 1 keeps gradients over several batches.
    `freeze_layers` must be at least the profile's; more than the profile's saves nothing. `compile` is
    not modelled: eager is what is estimated.
    """

    image_size: int
    batch: int
    precision: Precision = "fp32"
    optimizer: str = "AdamW"
    classes: int | None = None
    boxes_per_image: float = 8.0
    devices: int = 1
    freeze_layers: int = 0
    mosaic: bool = True
    ema: bool = True
    compile: bool = False
    expandable_segments: bool = True
    validate: bool = False
    accumulation: int = 1
    most_boxes: int | None = None
    box_area: float = 0.05

    @property
    def amp(self) -> bool:
        """Say whether autocast is on."""
        return self.precision != "fp32"

    def fullest(self) -> int:
        """Return the most boxes that one image of a batch holds."""
        if self.most_boxes is not None:
            return self.most_boxes
        mean = self.boxes_per_image
        return ceil((mean + _TAIL * sqrt(mean)) * (_MOSAIC_MOST if self.mosaic else 1.0))

    def all_boxes(self) -> float:
        """Return the boxes of a full batch."""
        mean = self.boxes_per_image * (_MOSAIC_TOTAL if self.mosaic else 1.0)
        total = self.batch * mean + _TAIL * sqrt(self.batch * mean)
        return min(total, float(self.batch * self.fullest()))
