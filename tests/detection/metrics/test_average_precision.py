"""Average precision is COCO's, figure by figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.detections import Detections
from detection.metrics.average_precision import average_precision
from detection.metrics.matching import GroundTruth
from tests.detection.builders import detections, random_scene, truth
from tests.detection.metrics.coco import coco_precision

TOLERANCE = 1e-6


def compare(predictions: list[Detections], truths: list[GroundTruth], classes: int) -> None:
    """Check every figure against pycocotools."""
    table = coco_precision(predictions, truths, classes)
    report = average_precision(predictions, truths, classes)
    present = [class_id for class_id in range(classes) if (table[:, :, class_id] > -1).any()]
    assert sorted(report.ap_per_class) == present
    for class_id in present:
        assert report.ap_per_class[class_id] == pytest.approx(table[:, :, class_id].mean(), abs=TOLERANCE)
        assert report.ap50_per_class[class_id] == pytest.approx(table[0, :, class_id].mean(), abs=TOLERANCE)
    if present:
        assert report.map50_95 == pytest.approx(table[:, :, present].mean(), abs=TOLERANCE)
        assert report.map50 == pytest.approx(table[0][:, present].mean(), abs=TOLERANCE)


@pytest.mark.parametrize("grid", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("seed", range(15))
def test_equal_to_pycocotools(seed: int, grid: bool) -> None:
    """On random scenes, also with tied scores and tied overlaps, all figures equal COCO's to 1e-6."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(1, 7))
    scenes = [
        random_scene(
            random,
            classes=classes,
            truths=int(random.integers(0, 12)),
            strays=int(random.integers(0, 9)),
            grid=grid,
        )
        for _ in range(int(random.integers(1, 25)))
    ]
    compare([found for found, _ in scenes], [there for _, there in scenes], classes)


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_equal_to_pycocotools_on_small_scenes(seed: int, truths: int, strays: int, grid: bool) -> None:
    """Also on two images with few or no boxes."""
    random = np.random.default_rng(seed)
    scenes = [
        random_scene(random, classes=2, truths=truths, strays=strays, grid=grid),
        random_scene(random, classes=2, truths=strays, strays=truths, grid=grid),
    ]
    compare([found for found, _ in scenes], [there for _, there in scenes], 2)


def test_only_a_hundred_detections_of_a_class_count() -> None:
    """More than 100 detections of a class in an image are cut as COCO cuts them."""
    random = np.random.default_rng(7)
    scenes = [random_scene(random, classes=2, truths=120, strays=150) for _ in range(2)]
    assert max(len(found) for found, _ in scenes) > 200
    compare([found for found, _ in scenes], [there for _, there in scenes], 2)


def test_perfect_detections_score_one() -> None:
    """Every truth found with its own box gives one at all overlaps."""
    there = truth((1, 1, 9, 9, 0), (20, 20, 40, 60, 2))
    found = Detections(there.xyxy, np.full(2, 0.5), there.class_id)
    report = average_precision([found], [there], 3)
    assert (report.map50, report.map50_95) == pytest.approx((1.0, 1.0))
    assert sorted(report.ap_per_class) == [0, 2]


def test_nothing_found_scores_zero() -> None:
    """Empty detections are a normal, bad result."""
    report = average_precision([Detections.empty()], [truth((1, 1, 9, 9, 1))], 3)
    assert (report.map50, report.ap_per_class) == (0.0, {1: 0.0})


@pytest.mark.parametrize("images", [0, 1])
def test_nothing_to_find_says_so(images: int) -> None:
    """Without truths there is no figure for any class, and the mean is zero."""
    report = average_precision([detections((1, 1, 9, 9, 0.5, 0))] * images, [truth()] * images, 3)
    assert (report.map50, report.map50_95, report.ap_per_class) == (0.0, 0.0, {})


def test_unknown_classes_are_not_held_against_a_model() -> None:
    """Where labels do not know a class, detections of it change nothing (law 9)."""
    old = truth((1, 1, 9, 9, 0), known=2)
    new = truth((1, 1, 9, 9, 2), known=3)
    right = detections((1, 1, 9, 9, 0.8, 0))
    with_new_class = detections((1, 1, 9, 9, 0.8, 0), (30, 30, 50, 50, 0.99, 2))
    on_new = detections((1, 1, 9, 9, 0.7, 2))
    expected = average_precision([right, on_new], [old, new], 3)
    assert average_precision([with_new_class, on_new], [old, new], 3) == expected
    assert expected.ap50_per_class[2] == pytest.approx(1.0)
    reviewed = truth((1, 1, 9, 9, 0), known=3)
    assert average_precision([with_new_class, on_new], [reviewed, new], 3).ap50_per_class[2] < 0.6


def test_lists_of_different_length_are_refused() -> None:
    """One value per image on both sides."""
    with pytest.raises(ValueError):
        average_precision([Detections.empty()], [], 1)
