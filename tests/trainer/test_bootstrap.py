"""Ask how sure a difference is: paired, by groups, and equal to the plain measure where nothing is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from detection.metrics.average_precision import average_precision
from detection.metrics.matching import GroundTruth
from trainer.gate.bootstrap import map50_difference

Images = tuple[list[Detections], list[Detections], list[GroundTruth]]


def images(count: int, *, hit: float, other_hit: float, seed: int = 0) -> Images:
    """Return two models' detections on random truths; each finds a truth with its own chance."""
    random = np.random.default_rng(seed)
    first, second, truths = [], [], []
    for _ in range(count):
        n = int(random.integers(1, 5))
        corner = random.uniform(0, 80, (n, 2)) + np.arange(n)[:, None] * 100
        boxes = np.concatenate([corner, corner + 20], axis=1).astype(np.float32)
        classes = random.integers(0, 3, n)
        truths.append(GroundTruth(boxes, classes, 3))
        for chance, found in ((hit, first), (other_hit, second)):
            shifted = np.where(random.random(n) < chance, 0.0, 60.0)
            found.append(Detections((boxes + shifted[:, None]).astype(np.float32),
                                    random.uniform(0.1, 1, n).astype(np.float32), classes))  # fmt: skip
    return first, second, truths


def test_the_measured_difference_is_that_of_the_plain_measure() -> None:
    """With every image once, the difference equals that of two average precisions at overlap 0.5."""
    first, second, truths = images(40, hit=0.9, other_hit=0.6)
    interval = map50_difference(first, second, truths, [str(i) for i in range(40)], rounds=100)
    plain = (average_precision(first, truths, 3, overlaps=(0.5,)).map50
             - average_precision(second, truths, 3, overlaps=(0.5,)).map50)  # fmt: skip
    assert interval.value == pytest.approx(plain, abs=1e-9)


def test_equal_models_differ_by_nothing() -> None:
    """The draws are paired, so a model compared with itself has an interval of no width."""
    first, _, truths = images(20, hit=0.7, other_hit=0.7)
    interval = map50_difference(first, first, truths, [str(i) for i in range(20)], rounds=100)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_clear_loss_lies_under_zero_altogether() -> None:
    """A much worse model is worse at both ends of the interval, which holds the measured value."""
    first, second, truths = images(80, hit=0.5, other_hit=0.95)
    interval = map50_difference(first, second, truths, [str(i) for i in range(80)], rounds=300)
    assert interval.low < interval.value < interval.high < 0


def test_groups_are_drawn_whole() -> None:
    """Ten copies of five pictures are five pieces of evidence, so the interval is wider than of fifty."""
    first, second, truths = images(5, hit=0.6, other_hit=0.9, seed=3)
    tenfold = (first * 10, second * 10, truths * 10)
    grouped = map50_difference(*tenfold, [str(i % 5) for i in range(50)], rounds=300)
    single = map50_difference(*tenfold, [str(i) for i in range(50)], rounds=300)
    assert grouped.groups == 5
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    """A verdict can be repeated."""
    first, second, truths = images(10, hit=0.6, other_hit=0.9)
    groups = [str(i) for i in range(10)]
    assert map50_difference(first, second, truths, groups) == map50_difference(first, second, truths, groups)


def test_models_that_see_nothing_are_a_value_too() -> None:
    """Empty detections are a normal input."""
    _, second, truths = images(6, hit=0.5, other_hit=0.9)
    nothing = [Detections.empty()] * 6
    interval = map50_difference(nothing, second, truths, [str(i) for i in range(6)], rounds=100)
    assert interval.value < 0
