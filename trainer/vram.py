"""Estimate a training's peak of GPU memory as a sum of terms. Not confirmed on a GPU.

A first formula with its terms in sight, for the plan to reason with; the constants are for yolo11n-like
networks and are scaled by parameters and pixels. It stands where a calibrated estimate will stand.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleet_contracts.training import VramEstimate

_CONTEXT_BYTES = 600 * 2**20
"""CUDA context and libraries; varies with driver and card."""
_ACTIVATION_BYTES_PER_PIXEL = 630.0
"""Saved activations of yolo11n-like networks in full precision, by input pixel and width."""
_ANCHORS_PER_PIXEL = 1 / 64 + 1 / 256 + 1 / 1024
_ASSIGNMENT_BYTES = 4 * 6
"""What label assignment keeps for each pair of box and anchor."""
_SLACK_SHARE = 0.15
"""What the caching allocator and convolution workspaces take on top."""
_OPTIMIZER_COPIES = {"AdamW": 2, "Adam": 2, "SGD": 1, "MuSGD": 1}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Describe a network: parameters, and its width next to yolo11n's."""

    parameters: int = 2_600_000
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainingShape:
    """Describe what a step holds."""

    image_size: int
    batch: int
    amp: bool
    optimizer: str = "AdamW"
    classes: int = 80
    boxes_per_image: float = 8.0


def estimate_vram(model: ModelSize, shape: TrainingShape) -> VramEstimate:
    """Return the predicted peak and the terms it is the sum of, in bytes."""
    pixels = shape.image_size**2 * shape.batch
    anchors = pixels * _ANCHORS_PER_PIXEL
    weights = model.parameters * 4
    activations = pixels * _ACTIVATION_BYTES_PER_PIXEL * model.width * (0.55 if shape.amp else 1.0)
    terms = {
        "weights": weights,
        "gradients": weights,
        "optimizer": weights * _OPTIMIZER_COPIES.get(shape.optimizer, 2),
        "ema": weights,
        "batch": pixels * 3 * 4,
        "activations": activations,
        "assignment": anchors * _ASSIGNMENT_BYTES * (shape.boxes_per_image + 2 * shape.classes),
    }
    terms["slack"] = sum(terms.values()) * _SLACK_SHARE
    terms["context"] = _CONTEXT_BYTES
    whole = {name: int(value) for name, value in terms.items()}
    return VramEstimate(terms=whole, peak_bytes=sum(whole.values()))
