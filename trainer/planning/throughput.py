"""Say how fast a network trains on a card that no run of ours has seen; pure, and a model, not a measurement.

The one published series of training times for one family on one card is YOLOv5's: 300 epochs of COCO (118,287
images, 640 px, AMP) take n/s/m/l/x 1/2/4/6/8 days on a V100 (ultralytics/yolov5, README, "Training"). Next to
a V100's 125 TFLOPS that is 4.4 to 25 % of what its tensor cores can do, and between them the share grows with
the work per pixel, to the power 0.46 within 10 %. What of that time the tensor cores would need at 35 % of
their peak is taken to scale with a card's computing rate, the rest (memory traffic, launches) with its memory
bandwidth. Days are coarse and other networks differ: expect a factor of two until a run has measured it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Literal

from trainer.planning.cards import Card
from trainer.vram import ModelProfile

Basis = Literal["measured", "modelled", "guessed", ""]
FORWARD_AND_BACKWARD = 3.0
"""A training step computes three times what a forward pass does."""
_V100_TENSOR, _V100_BANDWIDTH = 125e12, 900e9
_SHARE_AT, _SHARE, _GROWTH = 11_000.0, 0.044, 0.46
"""At so many FLOPs a pixel (YOLOv5n) this share of the tensor peak is reached; it grows with this power."""
_MOST_SHARE = 0.35
_FP32_SHARE = 0.6
"""Share of the plain fp32 rate that convolutions reach where there is no tf32."""
_LEAST_TRAFFIC = 0.15
_STEP_SECONDS = 0.02
"""Launching kernels, optimizer and EMA of one step, whatever its batch. An assumption."""
_DEVICES_KEEP = 0.92
"""What each doubling of the devices keeps of perfect scaling. An assumption: gradients over PCIe."""
_CPU_CORE = 20e9
"""FLOPS of training on one core: yolo11n at 320 px made 6 to 10 images/s on 2 cores of a 2.5 GHz Xeon."""
_LOADER_PIXELS = 60 * 640 * 640.0
"""Pixels a second that one core prepares with mosaic, half of what it does without. An assumption."""
_CORES_A_DEVICE = 4
"""Cores a rented machine has for each card where the offer does not say."""
_BACKBONE_SHARE = 0.45
"""Share of the work that lies in the first ten layers, whose backward pass freezing saves. Rough."""
_FLOPS_PER_PARAMETER = 3_000.0 / 640**2
"""Forward FLOPs a pixel for each parameter; YOLO11 n to x: 2,300 to 3,500 at 640 px (ultralytics' table)."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Say how a stage trains; `batch` is images of one device's step, `cores` the machine's, 0 if unknown."""

    image_size: int
    batch: int
    devices: int = 1
    precision: str = "fp32"
    mosaic: bool = False
    frozen_layers: int = 0
    cores: int = 0


def work_per_pixel(profile: ModelProfile | None, weights_bytes: int) -> tuple[float, Basis]:
    """Return forward FLOPs per pixel, and whether they were counted or guessed from the weights' file.

    A file of weights holds 2 or 4 bytes a parameter; 3 are assumed, so a guess is off by half or a third.
    """
    if profile is not None and profile.flops_per_pixel > 0:
        return profile.flops_per_pixel, "modelled"
    if profile is not None:
        return profile.parameters * _FLOPS_PER_PARAMETER, "guessed"
    if weights_bytes > 0:
        return weights_bytes / 3 * _FLOPS_PER_PARAMETER, "guessed"
    return 0.0, ""


def card_rate(card: Card, work: float, setup: Setup) -> float:
    """Return images per second over all devices for `work` forward FLOPs per pixel."""
    pixels = setup.image_size**2
    compute, traffic = _reference_seconds(work)
    mixed = setup.precision != "fp32"
    if mixed or card.bf16:
        # tf32 runs on tensor cores at half their fp16 rate.
        rate = _MOST_SHARE * card.tensor * 1e12 * (1.0 if mixed else 0.5)
    else:
        rate = _FP32_SHARE * card.fp32 * 1e12
    factor = (compute * _MOST_SHARE * _V100_TENSOR / rate) + traffic * (
        _V100_BANDWIDTH / (card.bandwidth * 1e9)
    ) * (1.0 if mixed else 2.0)
    seconds = pixels * factor * _thawed(setup) + _STEP_SECONDS / setup.batch
    scaled: float = setup.devices * _DEVICES_KEEP ** log2(setup.devices)
    return min(scaled / seconds, loader_rate(setup))


def cpu_rate(work: float, setup: Setup) -> float:
    """Return images per second on processor cores."""
    cores = max(setup.cores, 1)
    flops = setup.image_size**2 * work * FORWARD_AND_BACKWARD * _thawed(setup)
    return _CPU_CORE * cores / flops


def loader_rate(setup: Setup) -> float:
    """Return the images per second that the machine's cores can prepare."""
    cores = setup.cores or _CORES_A_DEVICE * setup.devices
    return cores * _LOADER_PIXELS * (1.0 if setup.mosaic else 2.0) / setup.image_size**2


def _reference_seconds(work: float) -> tuple[float, float]:
    """Return the seconds a V100 takes for one pixel in mixed precision: computing, and everything else."""
    flops = work * FORWARD_AND_BACKWARD
    share = min(_SHARE * (work / _SHARE_AT) ** _GROWTH, _MOST_SHARE)
    whole = flops / (share * _V100_TENSOR)
    compute = flops / (_MOST_SHARE * _V100_TENSOR)
    return compute, max(whole - compute, _LEAST_TRAFFIC * whole)


def _thawed(setup: Setup) -> float:
    frozen = min(setup.frozen_layers / 10, 1.0) * _BACKBONE_SHARE
    return 1.0 - frozen * 2.0 / FORWARD_AND_BACKWARD
