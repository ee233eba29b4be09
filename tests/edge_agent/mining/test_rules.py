"""Test the rules that look at the scores of one frame, and the random floor."""

from __future__ import annotations

import pytest

from detection.detections import Detections
from edge_agent.mining import NothingSeen, RandomFloor, SeenFrame, UncertainScore
from tests.edge_agent.builders import boxes


def seen(detections: Detections, part: str = "part-1", number: int = 0) -> SeenFrame:
    return SeenFrame(detections, "cam0", part, number)


@pytest.mark.parametrize(
    ("confidences", "score"),
    [
        ((), None),
        ((0.9,), None),
        ((0.1,), None),
        ((0.2,), 0.0),
        ((0.4,), 1.0),
        ((0.3, 0.9), 0.5),
        ((0.6,), None),
    ],
)
def test_a_score_within_the_band_is_uncertain(confidences: tuple[float, ...], score: float | None) -> None:
    """The band is 0.2 <= c < 0.6; the nearer to its middle the more valuable."""
    reason = UncertainScore(0.2, 0.6).check(seen(boxes(*[(one, 0) for one in confidences])))
    assert (None if reason is None else round(reason.score, 2)) == score


@pytest.mark.parametrize(
    ("confidences", "hard"), [((), True), ((0.1,), True), ((0.2,), False), ((0.1, 0.9), False)]
)
def test_a_frame_in_which_nothing_was_seen_is_hard(confidences: tuple[float, ...], hard: bool) -> None:
    """Empty detections are hard: the model may not know what lies there. Scores below the band are nothing."""
    reason = NothingSeen(0.2).check(seen(boxes(*[(one, 0) for one in confidences])))
    assert (reason is not None) == hard


def test_an_empty_frame_is_worth_less_than_a_doubtful_one() -> None:
    """Good parts are empty: they must neither be as urgent as a capture nor evict what the model doubts."""
    empty, nearly, doubtful = (
        (NothingSeen(0.2) if rule is NothingSeen else UncertainScore(0.2, 0.6)).check(seen(found))
        for rule, found in (
            (NothingSeen, boxes()),
            (NothingSeen, boxes((0.19, 0))),
            (UncertainScore, boxes((0.4, 0))),
        )
    )
    assert empty is not None
    assert nearly is not None
    assert doubtful is not None
    assert 0.1 < empty.score < nearly.score < 0.5 < doubtful.score


def test_the_random_floor_keeps_its_share_and_draws_the_same_again() -> None:
    """Inspecting a frame again after a restart decides as before."""
    frames = [seen(boxes((0.9, 0)), f"part-{number}") for number in range(4000)]
    kept = [frame for frame in frames if RandomFloor(0.05).check(frame)]
    assert 140 <= len(kept) <= 260
    assert kept == [frame for frame in frames if RandomFloor(0.05).check(frame)]
    assert RandomFloor(0.0).check(frames[0]) is None
    assert RandomFloor(1.0).check(frames[0]) is not None
