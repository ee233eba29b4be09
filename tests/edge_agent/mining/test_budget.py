"""Hold the budget to its limits over drawn days."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config import MiningConfig
from edge_agent.mining.budget import HOUR_S, Budget, BudgetLimits, bytes_of_day, day_name, limits_of


class Day:
    """Be a budget on a clock the test moves."""

    def __init__(self, limits: BudgetLimits) -> None:
        self.now = 0.0
        self.bytes = 0
        self.budget = Budget(limits, clock=lambda: self.now, bytes_today=lambda: self.bytes)

    def take(self, score: float = 1.0, class_id: int | None = None) -> str:
        return self.budget.take(score, class_id)


frames = st.lists(
    st.tuples(st.floats(0, 1800), st.floats(0, 1), st.sampled_from([None, 0, 1, 2])), max_size=150
)


@given(frames=frames, per_hour=st.integers(0, 8), per_day=st.integers(0, 20), per_class=st.integers(0, 4))
@settings(max_examples=80, deadline=None)
def test_no_limit_is_ever_exceeded(
    frames: list[tuple[float, float, int | None]], per_hour: int, per_day: int, per_class: int
) -> None:
    """Within any hour, any day and any hour of one class no more is kept than the limits say."""
    day = Day(BudgetLimits(per_hour, per_day, per_class, reserve=0.25))
    kept: list[tuple[float, int | None]] = []
    for wait_s, score, class_id in frames:
        day.now += wait_s
        if not day.take(score, class_id):
            kept.append((day.now, class_id))
    for now, class_id in kept:
        hour = [one for at, one in kept if now - HOUR_S < at <= now]
        assert not per_hour or len(hour) <= per_hour
        assert not per_day or sum(1 for at, _ in kept if now - 24 * HOUR_S < at <= now) <= per_day
        assert not per_class or class_id is None or hour.count(class_id) <= per_class
    if not (per_hour or per_day or per_class):
        assert len(kept) == len(frames)


@given(frames=frames)
@settings(max_examples=30, deadline=None)
def test_the_same_frames_are_decided_the_same(frames: list[tuple[float, float, int | None]]) -> None:
    """The budget draws nothing at random."""

    def decide() -> list[str]:
        day, said = Day(BudgetLimits(5, 30, 2)), []
        for wait_s, score, class_id in frames:
            day.now += wait_s
            said.append(day.take(score, class_id))
        return said

    assert decide() == decide()


def test_the_last_fifth_of_an_hour_is_for_valuable_frames() -> None:
    """Frames below the running median find the reserve closed; those at or above it use it up."""
    day = Day(BudgetLimits(per_hour=10, reserve=0.2))
    assert [day.take(score) for score in (0.2, 0.4, 0.6, 0.8) * 2] == [""] * 8
    assert day.take(0.3) == "reserved"
    assert [day.take(0.9), day.take(0.7)] == ["", ""]
    assert day.take(1.0) == "over-hour"
    day.now = HOUR_S
    assert day.take(0.1) == ""


def test_equal_scores_use_the_whole_hour() -> None:
    """Where all frames are worth the same nothing is held back."""
    day = Day(BudgetLimits(per_hour=10, reserve=0.5))
    assert [day.take(0.5) for _ in range(11)] == [""] * 10 + ["over-hour"]


def test_one_class_does_not_eat_the_hour() -> None:
    """A class that is over its limit leaves room for others and for frames without a finding."""
    day = Day(BudgetLimits(per_hour=10, per_class_hour=2))
    assert [day.take(class_id=0) for _ in range(3)] == ["", "", "over-class"]
    assert [day.take(class_id=1), day.take(class_id=None)] == ["", ""]


def test_bytes_are_those_the_outbox_stored_also_before_a_restart() -> None:
    """The day's bytes come from the stored counts, so a box that restarts again and again keeps to them."""
    day = Day(BudgetLimits(bytes_per_day=1000))
    assert day.take() == ""
    day.bytes = 1000
    assert day.take() == "over-bytes"
    assert not day.budget.has_bytes()
    restarted = Day(BudgetLimits(bytes_per_day=1000))
    restarted.bytes = day.bytes
    assert restarted.take() == "over-bytes"


def test_bytes_are_counted_by_utc_day_and_only_when_they_are_limited() -> None:
    """A box without the limit writes no count for it."""
    noon = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    assert bytes_of_day(BudgetLimits(bytes_per_day=1), noon, 700) == {day_name(noon): 700}
    assert day_name(noon) == "kept_bytes.2026-11-21"
    assert bytes_of_day(BudgetLimits(), noon, 700) == {}


def test_the_configuration_gives_the_limits() -> None:
    """Megabytes are millions of bytes."""
    limits = limits_of(MiningConfig(max_per_hour=7, max_per_day=50, max_per_class_hour=3, max_mb_per_day=1.5))
    assert limits == BudgetLimits(7, 50, 3, 1_500_000, 0.2)
