"""Test how frames become decided parts."""

from __future__ import annotations

from dataclasses import replace

from detection.detections import Detections
from edge_agent.parts import FinishedPart, PartTracker
from edge_agent.sources.base import Frame
from tests.edge_agent.builders import boxes, frame_of, model_of

MODEL = model_of(1, boxes())


def feed(tracker: PartTracker, frame: Frame, found: Detections | None) -> FinishedPart | None:
    finished = tracker.begin(frame)
    if found is None:
        tracker.add_blind(frame)
    else:
        tracker.add(frame, found, MODEL)
    tracker.done(frame)
    return finished


def test_a_part_ends_when_another_begins() -> None:
    """Its frames are decided on together and handed out as done together."""
    tracker = PartTracker()
    assert feed(tracker, frame_of(1, part="a", token="a__0"), boxes()) is None
    assert feed(tracker, frame_of(2, part="a", number=1, token="a__1"), boxes((0.9, 0))) is None
    finished = feed(tracker, frame_of(3, part="b", token="b__0"), boxes())
    assert finished is not None
    assert (finished.part_id, finished.decision.verdict, finished.tokens) == ("a", "reject", ("a__0", "a__1"))
    last = tracker.flush()
    assert last is not None
    assert (last.part_id, last.decision.verdict) == ("b", "accept")
    assert tracker.flush() is None


def test_the_decision_so_far_is_told_for_every_frame() -> None:
    """An example carries the verdict its part had at that frame."""
    tracker = PartTracker()
    frame = frame_of(1, part="a")
    tracker.begin(frame)
    assert tracker.add(frame, boxes((0.4, 1)), MODEL).verdict == "unsure"
    assert tracker.add(frame, boxes((0.7, 1)), MODEL).verdict == "reject"


def test_a_part_with_an_uninspected_frame_is_never_accepted() -> None:
    """What nobody looked at may hide a defect; a defect that was seen still rejects."""
    for order in ((None, boxes()), (boxes(), None)):
        tracker = PartTracker()
        for found in order:
            feed(tracker, frame_of(1, part="a"), found)
        finished = tracker.flush()
        assert finished is not None
        assert finished.decision.verdict == "unsure"
    tracker = PartTracker()
    feed(tracker, frame_of(1, part="a"), boxes((0.9, 0)))
    feed(tracker, frame_of(1, part="a"), None)
    rejected = tracker.flush()
    assert rejected is not None
    assert rejected.decision.verdict == "reject"


def test_a_part_that_never_ends_is_cut() -> None:
    """A camera that sends one part id for ever does not fill the memory."""
    tracker = PartTracker(max_frames=3)
    finished = [feed(tracker, frame_of(1, part="a"), boxes()) for _ in range(7)]
    assert [part.frames for part in finished if part] == [3, 3]


def test_a_part_that_lacks_its_last_frame_is_not_accepted() -> None:
    """Where the source tells the end, a part cut off by a stop or another part was not seen whole."""
    for last, found, verdict in (
        (False, boxes(), "unsure"),
        (True, boxes(), "accept"),
        (False, boxes((0.9, 0)), "reject"),
    ):
        tracker = PartTracker(ends_are_told=True)
        feed(tracker, frame_of(1, part="a"), boxes())
        feed(tracker, replace(frame_of(2, part="a"), last_in_part=last), found)
        finished = tracker.flush()
        assert finished is not None
        assert finished.decision.verdict == verdict
