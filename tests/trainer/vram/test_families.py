"""Trace every family that ultralytics trains, and the largest networks against the clock."""

from __future__ import annotations

import time

import pytest

from trainer.vram import TrainingShape, estimate_vram, profile_of

SMALLEST = (
    "yolov5nu",
    "yolov8n",
    "yolov9t",
    "yolov10n",
    "yolo11n",
    "yolo12n",
    "yolo26n",
    "yolov5n6",
    "yolov8n-p2",
)
LARGEST = ("yolov8x", "yolo11x", "yolo26x")
MOST_SECONDS = 20.0


@pytest.mark.soak
@pytest.mark.parametrize("name", SMALLEST)
def test_every_family_is_traced_exactly(name: str) -> None:
    """Whatever the blocks of a family are, their sizes are polynomials that meet every trace."""
    profile = profile_of(name, 5)
    assert profile.exact_share > 0.999
    stride = max(profile.strides)
    for precision in ("fp32", "bf16"):
        found = estimate_vram(profile, TrainingShape(10 * stride, 8, precision))
        assert found.peak_bytes > 500 * 2**20


@pytest.mark.soak
@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_networks_take_seconds(name: str) -> None:
    """An estimate from nothing is quick enough to wait for, on a machine that does nothing else."""
    began = time.monotonic()
    estimate_vram(profile_of(name, 80), TrainingShape(640, 16, "bf16"))
    assert time.monotonic() - began < MOST_SECONDS
