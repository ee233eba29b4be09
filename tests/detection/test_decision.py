"""A part is accepted, rejected or unsure by stated rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.decision import Decision, Finding, decide_part, reject_thresholds
from detection.detections import Detections
from detection.errors import RulesError
from fleet_contracts.samples import ClassRule, DecisionRules
from tests.detection.builders import detections

NAMES = ("scratch", "missing")
EMPTY = Detections.empty()


def rules(*, min_frames: int = 1, min_area: float = 0.0) -> DecisionRules:
    """Build rules: scratch 0.7 / 0.3, missing 0.5 / 0.2, named in another order than the classes."""
    return DecisionRules(
        classes=(
            ClassRule(name="missing", reject_at=0.5, unsure_at=0.2),
            ClassRule(name="scratch", reject_at=0.7, unsure_at=0.3, min_area_px=min_area),
        ),
        min_frames=min_frames,
    )


def frame(confidence: float, class_id: int = 0, side: float = 10.0) -> Detections:
    """Build a frame with one square detection."""
    return detections((0, 0, side, side, confidence, class_id))


@pytest.mark.parametrize(
    ("frames", "verdict"),
    [
        ([EMPTY], "accept"),  # nothing found
        ([frame(0.29)], "accept"),  # too faint
        ([frame(0.3)], "unsure"),  # at the edge: float32 0.3 reaches 0.3
        ([frame(0.69)], "unsure"),
        ([frame(0.7)], "reject"),  # at the edge: float32 0.7 reaches 0.7
        ([frame(0.5, 1)], "reject"),  # the other class has its own thresholds
        ([EMPTY, EMPTY, frame(0.9)], "reject"),  # one frame of several is enough
        ([], "unsure"),  # never inspected
    ],
)
def test_verdict_of_a_part(frames: list[Detections], verdict: str) -> None:
    """The strongest finding of each class decides by the class's own thresholds."""
    assert decide_part(frames, rules(), NAMES).verdict == verdict


@pytest.mark.parametrize(
    ("frames", "verdict"),
    [
        ([frame(0.9), EMPTY, EMPTY], "accept"),  # a flicker
        ([frame(0.9), frame(0.8), EMPTY], "reject"),
        ([frame(0.9), frame(0.4), EMPTY], "unsure"),  # seen twice, once strongly
        ([frame(0.9), frame(0.9, 1), EMPTY], "accept"),  # two classes, one frame each
        ([frame(0.9)], "reject"),  # a part of one frame cannot show two
    ],
)
def test_a_defect_must_be_seen_often_enough(frames: list[Detections], verdict: str) -> None:
    """With min_frames 2 a class counts in two frames, or in all if there are fewer."""
    assert decide_part(frames, rules(min_frames=2), NAMES).verdict == verdict


def test_two_boxes_in_one_frame_are_one_frame() -> None:
    """Frames are counted, not boxes."""
    twice = Detections.concatenate([frame(0.9), frame(0.8)])
    assert decide_part([twice, EMPTY], rules(min_frames=2), NAMES).verdict == "accept"


def test_small_boxes_do_not_count() -> None:
    """A box under the class's least area is ignored, however sure."""
    assert decide_part([frame(0.9, side=5)], rules(min_area=26.0), NAMES).verdict == "accept"
    assert decide_part([frame(0.9, side=5)], rules(min_area=25.0), NAMES).verdict == "reject"


def test_findings_say_what_led_to_the_verdict() -> None:
    """Findings name class, best confidence and frames that count, strongest first."""
    frames = [
        Detections.concatenate([frame(0.75), frame(0.6, 1)]),
        Detections.concatenate([frame(0.8), frame(0.1, 1)]),
    ]
    decision = decide_part(frames, rules(), NAMES)
    assert decision.findings == (
        Finding("scratch", pytest.approx(0.8), 2),
        Finding("missing", pytest.approx(0.6), 1),
    )
    assert decide_part([EMPTY], rules(), NAMES) == Decision("accept", ())


def test_a_threshold_of_zero_needs_a_detection() -> None:
    """Even a rule that rejects at any confidence accepts a part on which nothing was found."""
    strict = DecisionRules(classes=(ClassRule(name="scratch", reject_at=0.0, unsure_at=0.0),))
    assert decide_part([EMPTY], strict, ("scratch",)).verdict == "accept"
    assert decide_part([frame(0.01)], strict, ("scratch",)).verdict == "reject"


def test_a_class_without_a_rule_is_refused() -> None:
    """A class nobody has decided about is an error, found or not."""
    with pytest.raises(RulesError, match="stain"):
        decide_part([EMPTY], rules(), (*NAMES, "stain"))


def test_a_class_id_without_a_name_is_refused() -> None:
    """Detections of another class list are an error, not a silent accept."""
    with pytest.raises(RulesError, match="class ids"):
        decide_part([frame(0.9, 5)], rules(), NAMES)


def test_thresholds_follow_the_class_list() -> None:
    """Rules are looked up by name, whatever their order."""
    assert reject_thresholds(rules(), NAMES) == (0.7, 0.5)


@given(st.lists(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), max_size=4), max_size=4))
def test_more_evidence_never_softens_a_verdict(parts: list[list[tuple[float, int]]]) -> None:
    """Adding a sure defect to every frame of a part rejects it, whatever else was found."""
    frames = [
        Detections.concatenate([frame(confidence, class_id) for confidence, class_id in found])
        for found in parts
    ]
    worse = [Detections.concatenate([found, frame(1.0)]) for found in frames]
    assert decide_part(worse, rules(min_frames=2), NAMES).verdict == ("reject" if frames else "unsure")
