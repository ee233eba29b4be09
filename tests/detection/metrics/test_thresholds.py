"""Operating thresholds are where F1 is best on validation data."""

from __future__ import annotations

import numpy as np
import pytest

from detection.decision import FrameView, reject_thresholds
from detection.detections import Detections
from detection.errors import RulesError
from detection.metrics.recall import recall_at
from detection.metrics.thresholds import ThresholdOptions, choose_rules
from fleet_contracts.samples import Region
from tests.detection.builders import detections, random_scene, truth

BOX = (0, 0, 10, 10)
STRAY = (50, 50, 60, 60)


def test_the_threshold_lies_between_right_and_wrong() -> None:
    """With separable scores the threshold is the middle of the gap, and unsure starts at its half."""
    found = [detections((*BOX, 0.8, 0)), detections((*STRAY, 0.4, 0))]
    there = [truth((*BOX, 0), known=1), truth(known=1)]
    (rule,) = choose_rules(found, there, ("scratch",)).classes
    assert (rule.name, rule.reject_at, rule.unsure_at) == ("scratch", pytest.approx(0.6), pytest.approx(0.3))


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ((0.8, 0.07), (), 0.45),  # all right: half-way between the lower bound and the first score
        ((0.99,), (0.97,), 0.5),  # the best cut is out of bounds: the middle of what is left
        ((0.8, 0.6), (0.7,), 0.35),  # cutting off the one wrong costs a right: keep both
        ((0.95,), (0.89,), 0.895),  # close under the upper bound
        ((0.11,), (), 0.105),  # close above the lower bound
    ],
)
def test_thresholds_stay_in_bounds(
    right: tuple[float, ...], wrong: tuple[float, ...], expected: float
) -> None:
    """The threshold is bounded on both sides; of equally good ones the lowest is taken."""
    found = [detections((*BOX, score, 0)) for score in right]
    found += [detections((*STRAY, score, 0)) for score in wrong]
    there = [truth((*BOX, 0), known=1) for _ in right] + [truth(known=1) for _ in wrong]
    (rule,) = choose_rules(found, there, ("scratch",)).classes
    assert rule.reject_at == pytest.approx(expected, abs=1e-3)
    assert 0.05 <= rule.unsure_at <= rule.reject_at


def test_every_class_gets_its_rule() -> None:
    """Classes without truth, or that are never found, get the threshold for the unknown."""
    found = [detections((*BOX, 0.9, 0), (*STRAY, 0.3, 1))]
    rules = choose_rules(found, [truth((*BOX, 0), (*STRAY, 2))], ("a", "b", "c"))
    assert [rule.name for rule in rules.classes] == ["a", "b", "c"]
    assert reject_thresholds(rules, ("a", "b", "c"))[1:] == (0.5, 0.5)


def test_no_images_at_all_give_rules() -> None:
    """Without data every class gets the threshold for the unknown."""
    rules = choose_rules([], [], ("a",), ThresholdOptions(without_truth=0.4, min_frames=2))
    assert (rules.classes[0].reject_at, rules.classes[0].unsure_at, rules.min_frames) == (0.4, 0.2, 2)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_has_a_better_f1(seed: int) -> None:
    """On random scenes a fine sweep through `recall_at` finds nothing better within the bounds."""
    random = np.random.default_rng(seed)
    scenes = [random_scene(random, classes=1, truths=5, strays=4) for _ in range(12)]
    found: list[Detections] = [scene[0] for scene in scenes]
    there = [scene[1] for scene in scenes]
    truths = sum(len(one) for one in there)

    def f1(threshold: float) -> float:
        report = recall_at(found, there, (threshold,))
        hits = report.recall * truths
        return 2 * hits / (hits + report.false_positives + truths)

    chosen = choose_rules(found, there, ("scratch",)).classes[0].reject_at
    best = max(f1(threshold) for threshold in np.linspace(0.1, 0.9, 161))
    assert f1(chosen) >= best - 1e-9


def test_what_the_rules_do_not_look_at_has_no_say() -> None:
    """Boxes outside the regions or below the least area move no threshold, and the rules carry both on."""
    left = Region(name="left", polygon=((0.0, 0.0), (0.4, 0.0), (0.4, 1.0), (0.0, 1.0)))
    found = [detections((*BOX, 0.8, 0), (*STRAY, 0.85, 0), (20, 20, 22, 22, 0.83, 0)), detections()]
    there = [truth((*BOX, 0), known=1), truth((*STRAY, 0), known=1)]
    options = ThresholdOptions(min_frames=2, min_area_px={"scratch": 25.0}, regions=(left,))
    chosen = choose_rules(found, there, ("scratch",), options, [FrameView((100, 100))] * 2)
    assert chosen.classes[0].reject_at == pytest.approx(0.45)
    assert (chosen.classes[0].min_area_px, chosen.min_frames, chosen.regions) == (25.0, 2, (left,))


def test_a_least_area_for_a_class_that_there_is_not_is_refused() -> None:
    """A slip of the pen in a class's name must not switch its least area off."""
    with pytest.raises(RulesError, match="scrach"):
        choose_rules([], [], ("scratch",), ThresholdOptions(min_area_px={"scrach": 25.0}))
