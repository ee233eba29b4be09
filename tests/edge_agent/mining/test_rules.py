"""Test which frames are hard, and how many are kept."""

from __future__ import annotations

import pytest

from detection.detections import Detections
from edge_agent.config import MiningConfig
from edge_agent.mining import Miner, NothingSeen, RandomFloor, SeenFrame, UncertainScore
from edge_agent.mining.verdict import miner_of
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


def test_the_random_floor_keeps_its_share_and_draws_the_same_again() -> None:
    """Inspecting a frame again after a restart decides as before."""
    frames = [seen(boxes((0.9, 0)), f"part-{number}") for number in range(4000)]
    kept = [frame for frame in frames if RandomFloor(0.05).check(frame)]
    assert 140 <= len(kept) <= 260
    assert kept == [frame for frame in frames if RandomFloor(0.05).check(frame)]
    assert RandomFloor(0.0).check(frames[0]) is None
    assert RandomFloor(1.0).check(frames[0]) is not None


def test_the_hourly_limit_holds_and_ends() -> None:
    """A model that finds everything hard does not fill disk and network."""
    now = [0.0]
    miner = Miner([NothingSeen(0.2)], max_per_hour=3, clock=lambda: now[0])
    kept = 0
    for minute in range(10):
        now[0] = minute * 60.0
        kept += bool(miner.reasons_to_keep(seen(boxes())))
    assert (kept, miner.over_limit) == (3, 7)
    now[0] = 3600.0
    assert miner.reasons_to_keep(seen(boxes()))


def test_a_capture_is_kept_whatever_the_frame_shows() -> None:
    """Capture commands are not limited, come first among the reasons, and end after their number."""
    miner = Miner([NothingSeen(0.2)], max_per_hour=1, clock=lambda: 0.0)
    assert miner.reasons_to_keep(seen(boxes()))
    miner.capture(2, "asked by test")
    assert [reason.rule for reason in miner.reasons_to_keep(seen(boxes()))] == ["capture", "nothing-seen"]
    assert [reason.rule for reason in miner.reasons_to_keep(seen(boxes((0.9, 0))))] == ["capture"]
    assert miner.reasons_to_keep(seen(boxes((0.9, 0)))) == ()


def test_the_configuration_chooses_the_rules() -> None:
    """Rules that are switched off keep nothing."""
    quiet = miner_of(MiningConfig(low=0.2, high=0.6, nothing_seen=False, random_share=0.0))
    assert quiet.reasons_to_keep(seen(boxes())) == ()
    assert [one.rule for one in quiet.reasons_to_keep(seen(boxes((0.5, 0))))] == ["uncertain"]
    loud = miner_of(MiningConfig(random_share=1.0))
    assert [one.rule for one in loud.reasons_to_keep(seen(boxes()))] == ["nothing-seen", "random"]
