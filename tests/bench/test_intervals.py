"""Test the bench's statistics on numbers whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.edge_parts.intervals import (
    Interval,
    Target,
    growth,
    median_interval,
    overhead_ratio,
    share_interval,
    tail_ratio,
)


@pytest.mark.parametrize(
    ("n", "low", "high", "coverage"),
    [
        (1, 1, 1, 0.0),
        (2, 1, 2, 0.5),
        (6, 1, 6, 0.969),
        (10, 2, 9, 0.979),
        (20, 6, 15, 0.959),
        (40, 14, 27, 0.962),
    ],
)
def test_the_median_lies_between_known_order_statistics(n: int, low: int, high: int, coverage: float) -> None:
    """The ranks are those of the sign test's tables; fewer than six blocks say how little they cover."""
    told = median_interval([float(value) for value in range(n, 0, -1)])
    assert (told.low, told.high, told.coverage) == (low, high, coverage)
    assert told.mid == (n + 1) / 2


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    """Of 2,000 draws of ten blocks from a skewed distribution at least 95 % enclose its median."""
    random = np.random.default_rng(1)
    drawn = random.exponential(1.0, (2000, 10))
    held = [interval.low <= np.log(2) <= interval.high for interval in map(median_interval, drawn.tolist())]
    assert np.mean(held) > 0.96


def test_no_blocks_are_an_error() -> None:
    """A contender that was never measured has no figure."""
    with pytest.raises(ValueError, match="at least one block"):
        median_interval([])


def test_drift_of_the_machine_cancels_in_pairs() -> None:
    """A machine that becomes twice as slow changes no share and no overhead ratio."""
    drift = np.linspace(1.0, 2.0, 10)
    bare, ours, theirs = (drift * ms for ms in (10.0, 10.2, 12.0))
    share = share_interval(bare.tolist(), ours.tolist())
    assert share.low == pytest.approx(share.high) == pytest.approx(10 / 10.2)
    ratio = overhead_ratio(bare.tolist(), ours.tolist(), theirs.tolist())
    assert ratio.low == pytest.approx(ratio.high) == pytest.approx(0.1)


def test_the_tail_is_compared_and_not_the_middle() -> None:
    """Two slow frames in a hundred double the 99th percentile; equal blocks give one."""
    calm = [[10.0] * 98 + [11.0, 11.0]] * 20
    slow = [[10.0] * 98 + [22.0, 22.0]] * 20
    assert tail_ratio(calm, calm, 0.99).mid == 1.0
    told = tail_ratio(calm, slow, 0.99)
    assert (told.low, told.mid, told.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="as many"):
        tail_ratio(calm, slow[1:], 0.99)


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        ([100.0] * 10, 0.0),
        ([100.0] * 5 + [103.0] * 5, 0.03),
        ([100, 100, 100, 250, 100, 100, 100], 0.0),
        ([50, 60], 0.2),
    ],
)
def test_growth_compares_the_ends_and_forgives_a_spike(samples: list[float], share: float) -> None:
    """Memory is what it ends at, not what it was for a moment."""
    assert growth(samples) == pytest.approx(share)


def test_a_target_is_met_by_the_worse_end() -> None:
    """A median that reaches the target is not enough."""
    figure = Interval(0.96, 0.98, 0.99)
    assert not Target("at least", 0.97).is_met_by(figure)
    assert Target("at least", 0.96).is_met_by(figure)
    assert not Target("at most", 0.98).is_met_by(figure)
    assert Target("at most", 0.99).is_met_by(figure)
