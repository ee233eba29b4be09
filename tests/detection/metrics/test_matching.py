"""Detections and truths are matched once, by class, strongest first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.errors import ShapeError
from detection.metrics.matching import GroundTruth, box_iou, match_image
from fleet_contracts.samples import BoxLabel
from tests.detection.builders import detections, random_scene, truth


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),  # the same
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),  # half shared
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),  # touching
        ((0, 0, 10, 10), (2, 2, 4, 4), 0.04),  # inside
        ((3, 3, 3, 3), (3, 3, 3, 3), 0.0),  # no area at all
    ],
)
def test_overlap_of_two_boxes(a: tuple[int, ...], b: tuple[int, ...], expected: float) -> None:
    """Intersection over union."""
    iou = box_iou(np.array([a], np.float32), np.array([b], np.float32))
    assert iou.item() == pytest.approx(expected)


def test_a_truth_is_taken_once() -> None:
    """The stronger of two detections of one truth is right, the other wrong."""
    found = detections((0, 0, 10, 10, 0.5, 0), (0, 0, 10, 9, 0.9, 0))
    matches = match_image(found, truth((0, 0, 10, 10, 0)), (0.5,))
    assert matches.confidence.tolist() == pytest.approx([0.9, 0.5])
    assert matches.right.tolist() == [[True, False]]


def test_classes_do_not_mix() -> None:
    """A perfect box of another class is wrong."""
    matches = match_image(detections((0, 0, 9, 9, 0.9, 1)), truth((0, 0, 9, 9, 0)), (0.5,))
    assert matches.right.tolist() == [[False]]


def test_each_level_is_matched_on_its_own() -> None:
    """A detection may be right at a low overlap and wrong at a high one."""
    matches = match_image(detections((0, 0, 10, 7, 0.9, 0)), truth((0, 0, 10, 10, 0)), (0.5, 0.75))
    assert matches.right.tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("xyxy", "class_id", "known"),
    [
        (np.zeros((2, 4)), np.zeros(1), 1),  # not parallel
        (np.zeros((1, 5)), np.zeros(1), 1),  # five numbers
        (np.zeros((1, 4)), np.ones(1), 1),  # a class the labels do not know
        (np.zeros((1, 4)), -np.ones(1), 1),  # a class that cannot be
    ],
)
def test_impossible_truths_are_refused(xyxy: np.ndarray, class_id: np.ndarray, known: int) -> None:
    """Columns must be parallel and class ids known."""
    with pytest.raises(ShapeError, match="GroundTruth"):
        GroundTruth(xyxy, class_id, known)


def test_labels_become_pixels() -> None:
    """Shares of width and height become corners; an empty label is an image with nothing in it."""
    label = BoxLabel(class_id=1, cx=0.5, cy=0.25, width=0.5, height=0.1)
    there = GroundTruth.from_labels([label], (200, 100), 2)
    assert there.xyxy.tolist() == [[50.0, 20.0, 150.0, 30.0]]
    assert there.class_id.tolist() == [1]
    assert len(GroundTruth.from_labels([], (200, 100), 2)) == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 15), st.integers(0, 15))
@settings(max_examples=80, deadline=None)
def test_matches_keep_the_books(seed: int, truths: int, strays: int) -> None:
    """Never more right detections than truths of a class, all of them kept and ordered by confidence."""
    found, there = random_scene(np.random.default_rng(seed), classes=3, truths=truths, strays=strays)
    matches = match_image(found, there, (0.3, 0.5, 0.9))
    assert (np.diff(matches.confidence) <= 0).all()
    assert len(matches.confidence) == len(found)
    for class_id in range(3):
        of_class = matches.right[:, matches.class_id == class_id].sum(axis=1)
        assert (of_class <= (there.class_id == class_id).sum()).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
@settings(max_examples=50, deadline=None)
def test_a_threshold_does_not_change_stronger_matches(seed: int, threshold: float) -> None:
    """Leaving out faint detections changes nothing for stronger ones, so one matching serves all thresholds."""
    found, there = random_scene(np.random.default_rng(seed), classes=2, truths=8, strays=6)
    everything = match_image(found, there, (0.5,))
    strong = match_image(found.select(found.confidence >= threshold), there, (0.5,))
    assert strong.right[0].tolist() == everything.right[0][: len(strong.confidence)].tolist()


def test_only_the_strongest_of_a_class_count() -> None:
    """The limit is per class: a crowd of one class does not push out another."""
    crowd = detections(*((0, 0, 5, 5, 0.9 - index / 100, 0) for index in range(20)), (50, 50, 60, 60, 0.1, 1))
    matches = match_image(crowd, truth((50, 50, 60, 60, 1)), (0.5,), per_class=3)
    assert matches.class_id.tolist() == [0, 0, 0, 1]
    assert matches.right.tolist() == [[False, False, False, True]]
