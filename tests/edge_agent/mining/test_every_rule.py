"""Hold every rule to what all rules promise, over drawn frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.detections import Detections
from edge_agent.mining import MiningRule, NothingSeen, Past, RandomFloor, SeenFrame, UncertainScore
from edge_agent.mining.doubt import ClassMargin, MixedOverlap
from edge_agent.mining.over_time import Flicker, Vanished
from edge_agent.mining.rarity import Flagged, Novelty, RareClass
from tests.edge_agent.mining.frames import DIMENSIONS, NAMES, found, reference, seen, shares, some_frames

RULES: tuple[MiningRule, ...] = (
    UncertainScore(0.2, 0.6),
    NothingSeen(0.2),
    RandomFloor(0.5),
    ClassMargin(0.2, 0.3),
    MixedOverlap(0.2, 0.3),
    Vanished(0.2, 0.5),
    Flicker(0.3),
    Novelty(0.5),
    RareClass(0.2, 0.3, settled=10),
    Flagged(),
)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@every_rule
@given(frame=some_frames())
@settings(max_examples=60, deadline=None)
def test_a_score_is_a_share_and_the_same_frame_gets_the_same_reason(
    rule: MiningRule, frame: SeenFrame
) -> None:
    """Whatever a frame holds or lacks, no rule raises, its score lies in 0 to 1, and it is pure."""
    reason = rule.check(frame)
    assert reason == rule.check(frame)
    if reason is not None:
        assert 0.0 <= reason.score <= 1.0
        assert reason.rule
        assert reason.detail


@every_rule
@given(frame=some_frames(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_order_of_boxes_does_not_matter(rule: MiningRule, frame: SeenFrame, seed: int) -> None:
    """Rows of detections are a set: shuffled ones give the same rule and score."""
    shuffled = frame.detections.select(np.random.default_rng(seed).permutation(len(frame.detections)))
    one, other = rule.check(frame), rule.check(replace(frame, detections=shuffled))
    assert (one and (one.rule, one.score)) == (other and (other.rule, other.score))


@every_rule
@given(frame=some_frames())
@settings(max_examples=25, deadline=None)
def test_an_empty_detection_list_is_a_normal_input(rule: MiningRule, frame: SeenFrame) -> None:
    """No rule needs a box, with a past or without."""
    for past in (frame.past, Past(), Past((Detections.empty(),) * 2)):
        reason = rule.check(replace(frame, detections=Detections.empty(), past=past))
        assert reason is None or 0.0 <= reason.score <= 1.0


@given(first=shares, second=shares)
@settings(max_examples=60, deadline=None)
def test_what_is_nearer_the_doubt_scores_higher(first: float, second: float) -> None:
    """Monotonic where it should be: nearer second-best classes, stronger pasts, larger jumps, more of nothing."""
    small, large = sorted((first, second))
    for rule, less, more in (
        (ClassMargin(0.0, 1.0), _margin(large), _margin(small)),
        (Vanished(0.2, 0.0), _after(small), _after(large)),
        (Flicker(0.01), _after(small), _after(large)),
        (NothingSeen(1.1), seen(found((small, 0))), seen(found((large, 0)))),
    ):
        one, other = rule.check(less), rule.check(more)  # type: ignore[attr-defined]
        if one is not None and other is not None:
            assert one.score <= other.score
        assert one is None or other is not None


def _margin(gap: float) -> SeenFrame:
    return seen(found((1.0, 0, (0, 0, 9, 9), 1.0 - gap), runner_up=True))


def _after(confidence: float) -> SeenFrame:
    return seen(found(), past=Past((found((confidence, 1)),)))


@given(near=st.floats(0.0, 50.0), far=st.floats(0.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_what_is_farther_from_training_is_more_novel(near: float, far: float) -> None:
    """The score of novelty grows with the distance and is half at twice the threshold."""
    near, far = sorted((near, far))
    rule = Novelty(0.5)
    one, other = (rule.check(_away(distance)) for distance in (near, far))
    if one is not None:
        assert other is not None
        assert one.score <= other.score


def _away(distance: float) -> SeenFrame:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[0] = distance
    return seen(found(), features=vector, reference=reference(spread=50.0))


@pytest.mark.parametrize(("gap", "score"), [(0.0, 1.0), (0.05, 0.5), (0.11, None), (0.5, None)])
def test_close_classes_are_unclear(gap: float, score: float | None) -> None:
    """The margin is 0.1; a tie scores 1, and a weak box does not count."""
    reason = ClassMargin(0.2, 0.1).check(
        seen(found((0.5, 0, (0, 0, 9, 9), 0.5 - gap), (0.1, 1, (0, 0, 9, 9), 0.1), runner_up=True))
    )
    assert (reason and round(reason.score, 2)) == score


def test_without_a_second_best_class_there_is_no_margin() -> None:
    """End-to-end heads do not tell it; the rule is silent."""
    assert ClassMargin(0.2, 0.9).check(seen(found((0.5, 0)))) is None


def test_boxes_of_different_classes_at_one_place_contradict() -> None:
    """Same place and confidence score 1; one class twice is no contradiction, nor are boxes apart."""
    rule, here, away = MixedOverlap(0.2, 0.5), (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    reason = rule.check(seen(found((0.6, 0, here, 0.0), (0.6, 1, here, 0.0))))
    assert reason is not None
    assert reason.score == 1.0
    weaker = rule.check(seen(found((0.6, 0, here, 0.0), (0.3, 1, here, 0.0))))
    assert weaker is not None
    assert weaker.score == 0.5
    assert rule.check(seen(found((0.6, 0, here, 0.0), (0.6, 0, here, 0.0)))) is None
    assert rule.check(seen(found((0.6, 0, here, 0.0), (0.6, 1, away, 0.0)))) is None
    assert rule.check(seen(found((0.6, 0, here, 0.0), (0.1, 1, here, 0.0)))) is None


def test_many_boxes_cost_a_bounded_matrix() -> None:
    """Three hundred boxes are looked at by the strongest; the contradiction among those is found."""
    rows = [(0.3, number % 2, (number * 20.0, 0.0, number * 20.0 + 10, 10.0), 0.0) for number in range(298)]
    pair = [(0.9, kind, (0.0, 90.0, 10.0, 100.0), 0.0) for kind in (0, 1)]
    assert MixedOverlap(0.2, 0.5).check(seen(found(*rows, *pair))) is not None


def test_what_earlier_frames_showed_and_this_one_does_not_has_vanished() -> None:
    """A part seen once has no past; a weak earlier box is no proof; what is still there has not vanished."""
    rule, strong = Vanished(0.2, 0.5), found((0.8, 1))
    reason = rule.check(seen(found(), past=Past((strong, found()))))
    assert reason is not None
    assert reason.score == 0.8
    for frame in (
        seen(found()),
        seen(found(), past=Past((found((0.4, 1)),))),
        seen(found((0.3, 0)), past=Past((strong,))),
    ):
        assert rule.check(frame) is None


def test_a_class_that_comes_and_goes_flickers() -> None:
    """Only the frame just before counts, and each class by its best box."""
    rule = Flicker(0.5)
    reason = rule.check(seen(found((0.9, 1), (0.2, 0)), past=Past((found((0.9, 0)), found((0.3, 0))))))
    assert reason is not None
    assert (reason.score, reason.detail) == (0.9, "missing changed by 0.900 since the last frame")
    assert rule.check(seen(found((0.9, 1), (0.9, 1)), past=Past((found((0.7, 1)),)))) is None
    assert rule.check(seen(found(), past=Past((found(),)))) is None


def test_a_rare_class_is_worth_more_the_rarer_it_is() -> None:
    """A class that was never seen scores 1; at first every class is rare, so the rule waits."""
    counted = Past((), np.asarray([0.99, 0.01], np.float32), 500)
    rule = RareClass(0.2, 0.02)
    never = rule.check(seen(found((0.9, 2)), past=counted))
    seldom = rule.check(seen(found((0.9, 1), (0.9, 0)), past=counted))
    assert never is not None
    assert seldom is not None
    assert (never.score, round(seldom.score, 2)) == (1.0, 0.5)
    assert rule.check(seen(found((0.9, 0)), past=counted)) is None
    assert rule.check(seen(found((0.1, 2)), past=counted)) is None
    assert rule.check(seen(found((0.9, 2)), past=replace(counted, counted=199))) is None


def test_novelty_is_silent_without_what_it_needs() -> None:
    """No features, no reference, or one of another length: no reason and no error."""
    vector = np.full(DIMENSIONS, 100.0, np.float32)
    assert Novelty(1.0).check(seen(found(), features=vector, reference=reference())) is not None
    assert Novelty(1.0).check(seen(found(), features=vector)) is None
    assert Novelty(1.0).check(seen(found(), reference=reference())) is None
    assert Novelty(1.0).check(seen(found(), features=vector[:2], reference=reference())) is None


def test_a_vector_that_is_no_number_is_as_novel_as_can_be() -> None:
    """A model that answers nan saw something it cannot handle."""
    vector = np.full(DIMENSIONS, np.nan, np.float32)
    reason = Novelty(1.0).check(seen(found(), features=vector, reference=reference()))
    assert reason is not None
    assert reason.score == 1.0


def test_a_flag_is_kept_with_its_words() -> None:
    """Operator and PLC say why; that is the reason's detail."""
    reason = Flagged().check(seen(found(), flag="scale out of range"))
    assert reason is not None
    assert (reason.rule, reason.score, reason.detail) == ("flag", 1.0, "scale out of range")
    assert Flagged().check(seen(found((0.5, NAMES.index("stain"))))) is None
