"""Recall counts what is found at the thresholds that are in force."""

from __future__ import annotations

import pytest

from detection.detections import Detections
from detection.metrics.recall import recall_at
from tests.detection.builders import detections, truth

THERE = truth((0, 0, 10, 10, 0), (20, 20, 30, 30, 0), (50, 50, 70, 70, 2))
FOUND = detections(
    (0, 0, 10, 10, 0.7, 0),  # right, exactly at its threshold
    (20, 20, 30, 30, 0.6, 0),  # right, but under the threshold
    (50, 50, 70, 69, 0.3, 2),  # right at a lower threshold of its own
    (80, 80, 90, 90, 0.9, 1),  # not there
)


def test_thresholds_are_per_class() -> None:
    """Each class is judged at its own threshold, which a score equal to it reaches."""
    report = recall_at([FOUND], [THERE], (0.7, 0.5, 0.3))
    assert report.recall == pytest.approx(2 / 3)
    assert report.recall_per_class == {0: 0.5, 2: 1.0}
    assert report.truths_per_class == {0: 2, 2: 1}
    assert (report.false_positives, report.images) == (1, 1)


def test_overlap_can_be_asked_for() -> None:
    """A stricter overlap finds less, and what misses it is a false positive."""
    report = recall_at([FOUND], [THERE], (0.7, 0.5, 0.3), iou=0.99)
    assert report.recall_per_class == {0: 0.5, 2: 0.0}
    assert report.false_positives == 2


def test_doubles_are_false_positives() -> None:
    """A second detection of one truth helps nobody."""
    doubled = Detections.concatenate([FOUND, FOUND.select(slice(1))])
    assert recall_at([doubled], [THERE], (0.7, 0.5, 0.3)).false_positives == 2


def test_unknown_classes_are_left_out() -> None:
    """A detection of a class the labels do not know is not a false positive (law 9)."""
    there = truth((0, 0, 10, 10, 0), known=1)
    report = recall_at([FOUND], [there], (0.5, 0.5, 0.1))
    assert (report.recall, report.false_positives) == (1.0, 1)


@pytest.mark.parametrize("images", [0, 3])
def test_nothing_there_is_zero(images: int) -> None:
    """Without truths recall is zero and no class is named."""
    report = recall_at([Detections.empty()] * images, [truth()] * images, (0.5,) * 3)
    assert (report.recall, report.recall_per_class, report.images) == (0.0, {}, images)
