"""Hold calibration against sums by hand and against a bootstrap drawn the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from detection.metrics.calibration import Draws, calibration, calibration_error
from detection.metrics.matching import GroundTruth

THERE = np.array([[10.0, 10.0, 30.0, 30.0]], np.float32)
ELSEWHERE = np.array([[60.0, 60.0, 80.0, 80.0]], np.float32)


def image(confidence: float, *, right: bool) -> tuple[Detections, GroundTruth]:
    """Return one detection that is right or not, and the truth."""
    box = THERE if right else ELSEWHERE
    found = Detections(box, np.array([confidence], np.float32), np.array([0]))
    return found, GroundTruth(THERE, np.array([0]), 1)


def line(seed: int, count: int, truth_of: float) -> tuple[list[Detections], list[GroundTruth], list[str]]:
    """Return images whose detections say something and are right with `truth_of` times that probability."""
    random = np.random.default_rng(seed)
    said = random.uniform(0.2, 1.0, size=count)
    rows = [image(float(one), right=random.random() < one * truth_of) for one in said]
    return [found for found, _ in rows], [truth for _, truth in rows], [f"g{n // 2}" for n in range(count)]


def test_by_hand() -> None:
    """Four detections, one under the threshold: mean 0.8 said, two of three right."""
    rows = [image(0.9, right=True), image(0.8, right=True), image(0.7, right=False), image(0.3, right=False)]
    report = calibration([f for f, _ in rows], [t for _, t in rows], (0.5,), ["a", "b", "c", "d"])
    assert report.detections == 3
    assert report.stated == pytest.approx(0.8, abs=1e-6)
    assert report.precision == pytest.approx(2 / 3)
    assert report.gap == pytest.approx(0.8 - 2 / 3, abs=1e-6)
    assert report.error == pytest.approx((0.1 + 0.2 + 0.7 + 0.3) / 4, abs=1e-6)


def test_error_against_a_loop_over_bins() -> None:
    """The expected calibration error is that of its definition."""
    random = np.random.default_rng(0)
    confidence, right = random.random(500), (random.random(500) < 0.6).astype(float)
    by_hand = 0.0
    for low in np.arange(0, 1, 0.1):
        rows = (confidence >= low) & (confidence < low + 0.1)
        if rows.any():
            by_hand += rows.sum() / 500 * abs(confidence[rows].mean() - right[rows].mean())
    assert calibration_error(confidence, right) == pytest.approx(by_hand)


def test_interval_against_a_slow_bootstrap() -> None:
    """Drawing groups whole, one by one, gives the same interval up to the draws' own noise."""
    found, truths, groups = line(1, 200, 0.8)
    report = calibration(found, truths, (0.0,), groups, Draws(rounds=4000, seed=1))
    random = np.random.default_rng(2)
    names = sorted(set(groups))
    rows_of = {name: [row for row, group in enumerate(groups) if group == name] for name in names}
    right = [float(one.xyxy[0, 0] == 10.0) for one in found]
    gaps = []
    for _ in range(2000):
        rows = [row for name in random.choice(names, size=len(names)) for row in rows_of[name]]
        gaps.append(np.mean([float(found[row].confidence[0]) for row in rows]) - np.mean([right[row] for row in rows]))
    low, high = np.quantile(gaps, [0.025, 0.975])
    assert report.low == pytest.approx(low, abs=0.01)
    assert report.high == pytest.approx(high, abs=0.01)
    assert report.low < report.gap < report.high


def test_an_honest_model_and_a_boaster_are_told_apart() -> None:
    """An honest model's interval holds zero about as often as promised; a boaster's lies far above it."""
    holds = 0
    for seed in range(60):
        found, truths, groups = line(seed, 200, 1.0)
        report = calibration(found, truths, (0.0,), groups, Draws(rounds=300))
        holds += report.low <= 0.0 <= report.high
    assert holds >= 60 * 0.95 - 5
    found, truths, groups = line(3, 400, 0.5)
    assert calibration(found, truths, (0.0,), groups).low > 0.15


def test_nothing_found_says_nothing() -> None:
    """Without detections the interval is as wide as can be."""
    report = calibration([Detections.empty()], [image(0.5, right=True)[1]], (0.5,), ["a"])
    assert (report.detections, report.low, report.high, report.error) == (0, -1.0, 1.0, 0.0)


def test_as_many_groups_as_images() -> None:
    """A column that is too short is an error, not a silent cut."""
    found, truth = image(0.9, right=True)
    with pytest.raises(ValueError, match="group for each"):
        calibration([found, found], [truth, truth], (0.5,), ["a"])
