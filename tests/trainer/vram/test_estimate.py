"""Estimate shapes: more of anything takes more, terms add up, and nobody is told more than is known."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.vram import (
    EstimateRefused,
    ModelProfile,
    TrainingShape,
    estimate_vram,
    load_calibration,
    naive_estimate,
)
from trainer.vram.calibration import PRIOR, family_of
from trainer.vram.replay import replay

BASE = TrainingShape(320, 8)
MIB = 2**20


@pytest.mark.parametrize(
    "more",
    [
        {"image_size": 640},
        {"batch": 16},
        {"boxes_per_image": 300.0},
        {"devices": 4},
        {"accumulation": 4},
        {"optimizer": "NAdam", "batch": 1, "image_size": 32},
    ],
)
def test_more_takes_more(more: dict[str, Any], two_heads: ModelProfile) -> None:
    """Pixels, images, boxes, devices, kept gradients and hungrier optimizers all raise the peak."""
    base = replace(BASE, optimizer="SGD", batch=1, image_size=32) if "optimizer" in more else BASE
    found = estimate_vram(two_heads, replace(base, **more))
    assert found.peak_bytes > estimate_vram(two_heads, base).peak_bytes


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 60), st.integers(1, 5))
def test_nothing_shrinks_what_is_allocated(
    tiny: ModelProfile, size: int, batch: int, boxes: float, extra: int
) -> None:
    """Whatever the shape, more images, pixels or boxes never allocate less."""
    shape = TrainingShape(size * 32, batch, boxes_per_image=boxes)
    base = replay(tiny, shape)
    assert base.peak_reserved >= base.peak_allocated
    for larger in (
        replace(shape, batch=batch + extra), replace(shape, image_size=(size + extra) * 32),
        replace(shape, boxes_per_image=boxes + extra),
    ):  # fmt: skip
        assert replay(tiny, larger).peak_allocated >= base.peak_allocated


def test_half_precision_takes_less(two_heads: ModelProfile) -> None:
    """Autocast halves activations, but the loss, the neck and the batch stay in full precision."""
    full = estimate_vram(two_heads, BASE)
    for precision in ("fp16", "bf16"):
        half = estimate_vram(two_heads, replace(BASE, precision=precision))
        assert 0.4 < half.terms["activations"] / full.terms["activations"] < 0.75
        assert half.terms["weights"] > full.terms["weights"], "autocast copies the weights"


def test_terms_add_up_to_the_peak(two_heads: ModelProfile) -> None:
    """The table's last line is the sum of the others."""
    found = estimate_vram(two_heads, replace(BASE, devices=2))
    assert sum(found.terms.values()) == found.peak_bytes
    assert {"weights", "gradients", "optimizer", "ema", "activations", "batch", "loss", "workspace", "context",
            "slack", "ddp"} == set(found.terms)  # fmt: skip


def test_known_terms_are_what_arithmetic_says(two_heads: ModelProfile) -> None:
    """Weights, averaged copy, Adam's two states and the batch's pixels can be counted by hand."""
    found = estimate_vram(two_heads, BASE)
    weights = two_heads.parameters * 4
    for term, size in {"weights": weights, "ema": weights, "optimizer": 2 * weights}.items():
        assert found.terms[term] == pytest.approx(size, rel=0.05), term
    assert found.terms["batch"] == pytest.approx(8 * 3 * 320**2 * 4, rel=0.01)


def test_the_batch_of_a_tiny_step_peaks_in_the_optimizer_of_lists(two_heads: ModelProfile) -> None:
    """With next to no pixels it is SGD's copies of all gradients that decide, and the moment says so."""
    assert estimate_vram(two_heads, TrainingShape(32, 1, optimizer="SGD")).moment == "optimizer"
    assert estimate_vram(two_heads, BASE).moment in {"loss", "backward"}


def test_expandable_segments_reserve_less(two_heads: ModelProfile) -> None:
    """One growing segment wastes less than many fixed ones."""
    fixed = estimate_vram(two_heads, replace(BASE, expandable_segments=False))
    assert estimate_vram(two_heads, BASE).terms["slack"] < fixed.terms["slack"]


def test_an_estimate_is_quick(two_heads: ModelProfile) -> None:
    """Planning asks for dozens; the best of five is what the machine can do."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        estimate_vram(two_heads, replace(BASE, precision="bf16"))
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.2


def test_the_published_formula_is_far_too_low(two_heads: ModelProfile) -> None:
    """Parameters times twelve bytes, and the images: no activation is in it."""
    assert naive_estimate(two_heads, BASE) == two_heads.parameters * 12 + 8 * 3 * 320**2 * 4
    assert estimate_vram(two_heads, BASE).peak_bytes > 5 * naive_estimate(two_heads, BASE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image_size": 330}, "that 32 divides"),
        ({"image_size": 0}, "that 32 divides"),
        ({"batch": 0}, "at least one image"),
        ({"classes": 7}, "2 classes"),
    ],
)
def test_shapes_that_cannot_be_are_refused(wrong: dict[str, Any], said: str, tiny: ModelProfile) -> None:
    """The error says what was expected and what to take in its place."""
    with pytest.raises(EstimateRefused, match=said) as caught:
        estimate_vram(tiny, replace(BASE, **wrong))
    assert caught.value.diagnostics()


def runs(tmp_path: Path, count: int, **changes: Any) -> Path:
    """Write measured runs whose cards take 700 MiB beside an allocator that reserves a tenth more."""
    row = {
        "model": "yolo26n", "parameters": 2_500_000, "role": "calibration", "reserved_bytes": 1100 * MIB,
        "allocated_bytes": 1000 * MIB, "process_bytes": 1800 * MIB, "predicted_reserved_bytes": 1000 * MIB,
        "predicted_allocated_bytes": 990 * MIB, **changes,
    }  # fmt: skip
    rows = [row, {**row, "parameters": 2_600_000}] * (count // 2)
    (tmp_path / "vram-card.json").write_text(json.dumps({"gpu_runs": rows}))
    return tmp_path


def test_without_measured_runs_nothing_is_confirmed(tmp_path: Path, two_heads: ModelProfile) -> None:
    """No file, a file of another kind and held-out runs alone calibrate nothing."""
    assert load_calibration(tmp_path) is None
    (tmp_path / "vram-broken.json").write_text("[1")
    (tmp_path / "vram-cpu.json").write_text(json.dumps({"cpu_steps": []}))
    assert load_calibration(tmp_path) is None
    assert load_calibration(runs(tmp_path, 8, role="held-out")) is None
    assert load_calibration(runs(tmp_path, 2)) is None, "two runs are no calibration"
    assert not estimate_vram(two_heads, BASE, load_calibration(tmp_path)).confirmed


def test_measured_runs_correct_and_confirm_their_own_kind(
    tmp_path: Path, two_heads: ModelProfile, tiny: ModelProfile
) -> None:
    """Context and what is reserved follow the runs; a network of another family stays unconfirmed."""
    calibration = load_calibration(runs(tmp_path, 8))
    assert calibration is not None
    assert calibration.factors.context_bytes == 700 * MIB
    found, before = estimate_vram(two_heads, BASE, calibration), estimate_vram(two_heads, BASE)
    assert found.confirmed
    assert found.calibration == "vram-card.json"
    reserved = before.peak_bytes - PRIOR.context_bytes
    assert found.peak_bytes == pytest.approx(reserved * 1.1 + 700 * MIB, rel=1e-6)
    assert not estimate_vram(tiny, BASE, calibration).confirmed


def test_a_size_outside_the_measured_ones_is_not_confirmed(tmp_path: Path, two_heads: ModelProfile) -> None:
    """The family alone does not do: x networks say nothing about n ones."""
    calibration = load_calibration(runs(tmp_path, 8, parameters=50_000_000))
    assert calibration is not None
    assert not calibration.covers(two_heads)


@pytest.mark.parametrize(
    ("name", "family"),
    [("yolo11x", "yolo11"), ("yolov8m", "yolov8"), ("yolov10n", "yolov10"), ("own", "own")],
)
def test_families_are_told_by_name(name: str, family: str) -> None:
    """Size letters are no part of a family."""
    assert family_of(name) == family
