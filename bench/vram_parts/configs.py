"""List what is measured, and which of it may calibrate: written before anything was measured.

Whole families (v5, v9, v10, 12) and whole image sizes (480, 800) are held out; a configuration calibrates
only where neither its family nor its image size is.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.vram import TrainingShape
from trainer.vram.calibration import family_of
from trainer.vram.shape import Precision

HELD_OUT_FAMILIES = ("yolov5", "yolov9", "yolov10", "yolo12")
HELD_OUT_SIZES = (480, 800)
CLASSES = 10
BOX_SIDES = (0.04, 0.3)
"""Least and largest side of the boxes drawn, in sides of the image."""
BOX_AREA = ((BOX_SIDES[0] + BOX_SIDES[1]) / 2) ** 2


@dataclass(frozen=True, slots=True)
class Config:
    """Name one training step: every image holds `boxes` boxes, nothing is mixed."""

    model: str
    image_size: int
    batch: int
    precision: Precision
    boxes: int = 8
    optimizer: str = "AdamW"

    @property
    def name(self) -> str:
        """Return a name for tables and for picking up where a cut run stopped."""
        parts = (self.model, self.image_size, self.batch, self.precision, self.boxes, self.optimizer)
        return "-".join(str(part) for part in parts)

    @property
    def role(self) -> str:
        """Return what its measurement may be used for."""
        held = family_of(self.model) in HELD_OUT_FAMILIES or self.image_size in HELD_OUT_SIZES
        return "held-out" if held else "calibration"

    @property
    def shape(self) -> TrainingShape:
        """Return the step in the estimate's words."""
        return TrainingShape(
            image_size=self.image_size, batch=self.batch, precision=self.precision, optimizer=self.optimizer,
            classes=CLASSES, boxes_per_image=float(self.boxes), most_boxes=self.boxes, mosaic=False,
            box_area=BOX_AREA, validate=True,
        )  # fmt: skip


GPU_CONFIGS: tuple[Config, ...] = (
    Config("yolov8n", 320, 16, "bf16"),
    Config("yolov8n", 640, 16, "fp32"),
    Config("yolov8n", 640, 64, "bf16", optimizer="SGD"),
    Config("yolov8s", 640, 16, "bf16", boxes=40),
    Config("yolov8s", 320, 64, "fp16"),
    Config("yolov8m", 640, 16, "bf16"),
    Config("yolov8m", 320, 32, "fp32", optimizer="SGD"),
    Config("yolov8m", 640, 4, "bf16", boxes=150),
    Config("yolo11n", 320, 64, "fp32"),
    Config("yolo11n", 640, 16, "bf16"),
    Config("yolo11n", 640, 48, "fp16", boxes=40),
    Config("yolo11s", 640, 16, "bf16"),
    Config("yolo11s", 640, 16, "fp32", optimizer="MuSGD"),
    Config("yolo11m", 640, 16, "bf16"),
    Config("yolo11m", 320, 16, "fp32", boxes=150),
    Config("yolo26n", 640, 16, "bf16"),
    Config("yolo26n", 320, 64, "fp32", boxes=40),
    Config("yolo26s", 640, 16, "fp16"),
    Config("yolo26s", 640, 8, "fp32", optimizer="SGD"),
    Config("yolo26m", 640, 8, "bf16", optimizer="MuSGD"),
    Config("yolov8n", 480, 32, "bf16"),
    Config("yolov8s", 800, 8, "fp32"),
    Config("yolov8m", 480, 16, "fp16", boxes=40),
    Config("yolo11n", 480, 32, "fp32", boxes=150),
    Config("yolo11s", 800, 16, "bf16"),
    Config("yolo11m", 800, 8, "bf16", optimizer="SGD"),
    Config("yolo26n", 800, 16, "bf16", boxes=40),
    Config("yolo26s", 480, 16, "bf16"),
    Config("yolo26m", 480, 8, "fp32"),
    Config("yolov5n", 640, 32, "bf16"),
    Config("yolov5s", 640, 16, "fp32"),
    Config("yolov5m", 480, 16, "bf16", boxes=40),
    Config("yolov9t", 640, 16, "bf16"),
    Config("yolov9s", 640, 16, "fp32", optimizer="SGD"),
    Config("yolov9m", 320, 16, "bf16"),
    Config("yolov10n", 640, 32, "bf16"),
    Config("yolov10s", 640, 16, "fp16", boxes=150),
    Config("yolov10m", 480, 8, "fp32"),
    Config("yolo12n", 640, 16, "bf16"),
    Config("yolo12s", 640, 8, "fp32"),
    Config("yolo12m", 480, 8, "bf16", boxes=40),
    Config("yolo12n", 320, 64, "bf16", optimizer="MuSGD"),
)
"""Measured on a card; half of them calibrate at most."""

CPU_CONFIGS: tuple[Config, ...] = (
    Config("yolov5n", 320, 4, "fp32"),
    Config("yolov8n", 640, 2, "fp32"),
    Config("yolov8n", 320, 4, "bf16", boxes=150),
    Config("yolov8m", 320, 2, "fp32", optimizer="SGD"),
    Config("yolov9t", 320, 2, "fp32"),
    Config("yolov10n", 320, 4, "fp32", boxes=40),
    Config("yolo11n", 640, 2, "fp32"),
    Config("yolo11n", 320, 8, "bf16", optimizer="SGD"),
    Config("yolo11s", 480, 2, "fp32", boxes=40),
    Config("yolo11m", 320, 2, "bf16"),
    Config("yolo12n", 480, 2, "fp32"),
    Config("yolo26n", 320, 4, "fp32", boxes=150),
    Config("yolo26n", 640, 2, "bf16"),
    Config("yolo26s", 320, 2, "fp32", optimizer="SGD"),
)
"""Small enough that a processor takes the whole step in seconds."""

TIMED = ("yolo11n", "yolov8x", "yolo11x", "yolo26x")
"""Networks whose estimate is timed without a cache."""
TRACKED = 4
"""So many of the processor's configurations are also given to torch's own tracker, which is slow."""
