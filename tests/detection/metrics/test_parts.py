"""Parts are counted as the line would feel them."""

from __future__ import annotations

import pytest

from detection.decision import Decision, FrameView
from detection.detections import Detections
from detection.metrics.parts import decide_parts, part_report
from fleet_contracts.samples import ClassRule, DecisionRules, Region
from tests.detection.builders import detections, truth

ACCEPT, REJECT, UNSURE = Decision("accept"), Decision("reject"), Decision("unsure")
RULES = DecisionRules(
    classes=tuple(ClassRule(name=name, reject_at=0.5, unsure_at=0.25) for name in ("a", "b"))
)


def test_rates_are_per_thousand_parts_inspected() -> None:
    """Escapes are accepted bad parts, false rejects rejected good ones, both over all parts."""
    decisions = [ACCEPT, ACCEPT, REJECT, REJECT, UNSURE, UNSURE, ACCEPT, ACCEPT]
    bad = [True, False, True, False, True, False, False, True]
    report = part_report(decisions, bad)
    assert (report.parts, report.bad_parts, report.good_parts) == (8, 4, 4)
    assert (report.escapes, report.false_rejects, report.unsure) == (2, 1, 2)
    assert report.escapes_per_1000 == pytest.approx(250.0)
    assert report.false_rejects_per_1000 == pytest.approx(125.0)
    assert report.unsure_per_1000 == pytest.approx(250.0)
    assert (report.escape_share, report.false_reject_share) == (0.5, 0.25)


def test_no_parts_give_zero_and_say_so() -> None:
    """Rates over nothing are zero; the counts show that nothing was inspected."""
    report = part_report([], [])
    assert (report.parts, report.bad_parts, report.good_parts) == (0, 0, 0)
    assert report.escapes_per_1000 == report.false_rejects_per_1000 == report.unsure_per_1000 == 0.0
    assert report.escape_share == report.false_reject_share == 0.0


def test_a_single_frame_truth_tells_whether_a_part_is_bad() -> None:
    """A part of one frame is bad if its truth holds a box."""
    report = part_report([ACCEPT, REJECT], [truth((0, 0, 1, 1, 0)), truth()])
    assert (report.escapes, report.false_rejects) == (1, 1)


def test_frames_are_gathered_into_parts() -> None:
    """A part is judged by all its frames, and is bad if any of them shows a defect."""
    defect = detections((0, 0, 9, 9, 0.9, 0))
    frames = [
        ("p1", Detections.empty(), truth(known=2)),
        ("p2", Detections.empty(), truth(known=2)),
        ("p1", defect, truth((0, 0, 9, 9, 0), known=2)),
    ]
    decisions, bad = decide_parts(frames, RULES, ("a", "b"))
    assert [decision.verdict for decision in decisions] == ["reject", "accept"]
    assert bad == (True, False)


def test_unknown_classes_do_not_reject() -> None:
    """A part labelled under a shorter class list is not judged by what the list lacks (law 9)."""
    found = detections((0, 0, 9, 9, 0.9, 1))
    decisions, _ = decide_parts([("p1", found, truth(known=1))], RULES, ("a", "b"))
    assert decisions[0].verdict == "accept"


def test_lists_of_different_length_are_refused() -> None:
    """One truth per decision."""
    with pytest.raises(ValueError):
        part_report([ACCEPT], [])


def test_what_the_rules_leave_out_makes_no_part_bad() -> None:
    """A defect outside the regions, or below its least area, is neither an escape nor a reason to reject."""
    left = Region(name="left", polygon=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    rules = DecisionRules(
        classes=(
            ClassRule(name="a", reject_at=0.5, unsure_at=0.25, min_area_px=50.0),
            ClassRule(name="b", reject_at=0.5, unsure_at=0.25),
        ),
        regions=(left,),
    )
    rows = {
        "inside": (10, 10, 20, 20),
        "outside": (70, 10, 80, 20),
        "too small": (10, 10, 15, 15),
    }
    frames = [(name, detections((*box, 0.9, 0)), truth((*box, 0), known=2)) for name, box in rows.items()]
    decisions, bad = decide_parts(frames, rules, ("a", "b"), [FrameView((100, 100))] * 3)
    assert [decision.verdict for decision in decisions] == ["reject", "accept", "accept"]
    assert bad == (True, False, False)
