"""Fix the numbers of the demo on real images in one value; sizes in pixels, paces in frames per second."""

from __future__ import annotations

from dataclasses import dataclass, field

from demo.loop.settings import NOISY_MACHINE
from fleet_contracts.training import Precision

# The first champion learnt from the very images that became golden, so its figure there is flattered.
GATE = NOISY_MACHINE.model_copy(update={"max_golden_loss": 0.04, "max_golden_loss_worst": 0.08})


@dataclass(frozen=True, slots=True)
class ImagesTraining:
    """Say how the demo retrains on real images."""

    epochs: int = 8
    batch: int = 16
    learning_rate: float = 7e-4
    image_size: int = 320
    threads: int = 2
    validate_every: int = 2
    """Epochs between two measurements of the loss on validation images."""
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    replay_images: int = 420
    """Old images that are trained on again, so that the new model does not forget."""
    golden_images: int = 100
    """Old images kept out of training; the gate asks on them whether the new model forgot."""
    val_share: float = 0.18


@dataclass(frozen=True, slots=True)
class ImagesSettings:
    """Hold everything the demo on real images is told."""

    seed: int = 1
    task_id: str = "images"
    channel: str = "stable"
    devices: tuple[str, ...] = ("box-a", "box-b")
    pace: float = 8.0
    low: float = 0.2
    """Nothing seen is a frame without any score as high as this."""
    high: float = 0.5
    random_share: float = 0.05
    least_share: float = 0.1
    """Share of the new images that must come back labelled before there is something to train on."""
    training: ImagesTraining = field(default_factory=ImagesTraining)
