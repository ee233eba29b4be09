"""List twenty trainings that die for want of memory under plain ultralytics. Pure.

Written down before anything was measured. What is fixed here is the training, the moment at which plain
ultralytics is expected to die, and the memory it gets as a share of what the same training takes when it may
take all: bytes would have to be guessed without a card, shares need not be. A row that plain ultralytics
survives is told as such and does not count.

ultralytics halves the batch up to three times where memory runs out in forward or backward of the first epoch
of a single card, and its assigner tries again image by image. So those that shall die there begin at batch 1
or 2; after the first epoch, in the optimizer and in validation nothing is caught.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Peak = Literal["training", "validation"]
EPOCHS = 20
IMAGES = 128
FROM_THE_START = 1


@dataclass(frozen=True, slots=True)
class Crash:
    """Describe one training and its death.

    Attributes:
        moment: where plain ultralytics is expected to die: `forward` (or backward), `loss`, `optimizer`,
            `validation`.
        share: of the memory that the peak `of` took in an uncapped epoch.
        epoch: from which on the cap holds (from 1): another process has taken its part by then.
        boxes: labelled in each training image; `val_boxes` in each validation image, 0 for as many.
        validates: whether our run measures the loss on validation images too, as plain training does.
        policy: what the run's memory policy allows beyond its defaults.
    """

    name: str
    start: str
    size: int
    batch: int
    boxes: int
    moment: str
    share: float
    of: Peak = "training"
    epoch: int = FROM_THE_START
    accumulation: int = 1
    precision: str = "fp32"
    augmentation: str = "full"
    val_boxes: int = 0
    validates: bool = False
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        """Tell whether it dies after the first epoch's training, in the optimizer or in the loss."""
        return self.after_first_epoch or self.moment in {"optimizer", "loss"}

    @property
    def after_first_epoch(self) -> bool:
        """Tell whether a whole epoch was trained before it dies."""
        return self.epoch > FROM_THE_START or self.moment == "validation"

    def job_values(self, *, cuda: bool) -> dict[str, Any]:
        """Return the fields of a `BackendJob` that it fixes."""
        return {
            "image_size": self.size, "batch": self.batch, "accumulation": self.accumulation, "epochs": EPOCHS,
            "augmentation": self.augmentation, "precision": self.precision,
            "validate_every": int(self.validates),
            "learning_rate": 5e-4, "niceness": 0, "export": False, "cache": "ram",
            "workers": 4 if cuda else 0,
        }  # fmt: skip


_X_TO_L = {"smaller_models": ("yolo11l.yaml",)}
CRASHES = (
    # Forward or backward of the first epoch, with no batch left to halve.
    Crash("8m-1280", "yolov8m.yaml", 1280, 2, 8, "forward", 0.45),
    Crash("11l-1024", "yolo11l.yaml", 1024, 2, 8, "forward", 0.45),
    Crash("9c-640", "yolov9c.yaml", 640, 2, 20, "forward", 0.45),
    Crash("5m-1280", "yolov5m.yaml", 1280, 2, 8, "forward", 0.45),
    Crash("12m-960", "yolo12m.yaml", 960, 2, 8, "forward", 0.45),
    Crash("26m-1280", "yolo26m.yaml", 1280, 2, 8, "forward", 0.45),
    # Losses and assignment of crowded images: too much for one image at a time where four are mixed into one.
    Crash("11n-640-crowd", "yolo11n.yaml", 640, 2, 1500, "loss", 0.38),
    Crash("8s-1280-crowd", "yolov8s.yaml", 1280, 2, 800, "loss", 0.38),
    Crash("10n-640-crowd", "yolov10n.yaml", 640, 2, 1000, "loss", 0.38),
    # The optimizer's own memory, where images are small and the network is not.
    Crash("11x-64-step", "yolo11x.yaml", 64, 1, 2, "optimizer", 0.8, precision="bf16", augmentation="none",
          policy=_X_TO_L),
    Crash("8x-64-step", "yolov8x.yaml", 64, 1, 2, "optimizer", 0.8, precision="bf16", augmentation="none",
          policy={"smaller_models": ("yolov8l.yaml",)}),
    # Validation of crowded images by twos, after an epoch of training on others. Our run leaves validation to
    # the gate, away from the card; the last two are told to measure its loss all the same.
    Crash("11n-640-val", "yolo11n.yaml", 640, 1, 8, "validation", 0.42, "validation", val_boxes=4000),
    Crash("5n-1280-val", "yolov5n.yaml", 1280, 1, 8, "validation", 0.42, "validation", val_boxes=2500),
    Crash("8s-640-val", "yolov8s.yaml", 640, 1, 8, "validation", 0.42, "validation", val_boxes=4000,
          validates=True, policy={"smaller_images": (480, 320)}),
    Crash("26n-640-val", "yolo26n.yaml", 640, 1, 8, "validation", 0.42, "validation", val_boxes=4000,
          validates=True, policy={"smaller_images": (480, 320)}),
    # Another process takes its part later on.
    Crash("11s-640-later", "yolo11s.yaml", 640, 32, 8, "forward", 0.6, epoch=2),
    Crash("8n-640-later", "yolov8n.yaml", 640, 64, 20, "forward", 0.6, epoch=5),
    Crash("12s-640-later", "yolo12s.yaml", 640, 24, 8, "forward", 0.6, epoch=9, accumulation=2),
    Crash("11n-640-crowd-later", "yolo11n.yaml", 640, 8, 800, "forward", 0.3, epoch=13),
    Crash("26n-960-later", "yolo26n.yaml", 960, 32, 8, "forward", 0.6, epoch=18),
)  # fmt: skip
