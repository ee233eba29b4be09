"""Say how sure a figure is: medians over blocks by order statistics, tails by a bootstrap over blocks. Pure.

>>> median_interval([3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 9.0, 8.0, 7.0, 10.0])
Interval(low=2.0, mid=5.5, high=9.0, coverage=0.979)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold a figure and what it lies between; `coverage` is the probability that it does."""

    low: float
    mid: float
    high: float
    coverage: float = CONFIDENCE


@dataclass(frozen=True, slots=True)
class Target:
    """Hold what a figure must reach; the interval's worse end counts."""

    sense: Literal["at least", "at most"]
    value: float

    def is_met_by(self, figure: Interval) -> bool:
        """Tell whether the worse end of the interval reaches the target."""
        return figure.low >= self.value if self.sense == "at least" else figure.high <= self.value

    def worse_end(self, figure: Interval) -> float:
        """Return the end of the interval that decides."""
        return figure.low if self.sense == "at least" else figure.high


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median of independent values and the order statistics that enclose it.

    No distribution is assumed: the median lies between the k-th smallest and the k-th largest of n values
    with a probability that depends on n and k alone. k is the largest with at least 95 %; where even the
    extremes enclose it less surely (n < 6) they are given, with what they cover.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        raise ValueError("expected at least one block, got none")
    rank = 1
    while rank < n // 2 and _coverage(n, rank + 1) >= CONFIDENCE:
        rank += 1
    return Interval(
        ordered[rank - 1], float(np.median(ordered)), ordered[n - rank], round(_coverage(n, rank), 3)
    )


def share_interval(bare_ms: Sequence[float], other_ms: Sequence[float]) -> Interval:
    """Return frames per second of the second over the first, paired block by block so that drift cancels."""
    return median_interval([bare / other for bare, other in zip(bare_ms, other_ms, strict=True)])


def overhead_ratio(
    bare_ms: Sequence[float], ours_ms: Sequence[float], theirs_ms: Sequence[float]
) -> Interval:
    """Return (ours - bare) / (theirs - bare) over the blocks of the same rounds."""
    rounds = zip(bare_ms, ours_ms, theirs_ms, strict=True)
    return median_interval([(ours - bare) / (theirs - bare) for bare, ours, theirs in rounds])


def tail_ratio(idle: Sequence[Sequence[float]], busy: Sequence[Sequence[float]], quantile: float) -> Interval:
    """Return a quantile of all busy frames over that of all idle ones.

    The interval resamples pairs of neighbouring blocks, since the frames of a block are not independent.
    """
    idle_blocks, busy_blocks = [np.asarray(b) for b in idle], [np.asarray(b) for b in busy]
    if len(idle_blocks) != len(busy_blocks) or not idle_blocks:
        raise ValueError(
            f"expected as many busy as idle blocks, got {len(busy_blocks)} and {len(idle_blocks)}"
        )
    random = np.random.default_rng(0)
    drawn = [
        _ratio(idle_blocks, busy_blocks, random.integers(0, len(idle_blocks), len(idle_blocks)), quantile)
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    whole = _ratio(idle_blocks, busy_blocks, np.arange(len(idle_blocks)), quantile)
    return Interval(float(low), whole, float(high))


def growth(samples: Sequence[float]) -> float:
    """Return by what share the last fifth of the samples lies above the first.

    Medians, since memory goes up and down with what is loaded and let go at the moment of a sample.
    """
    edge = max(1, len(samples) // 5)
    first, last = float(np.median(samples[:edge])), float(np.median(samples[-edge:]))
    return last / first - 1.0


def _ratio(idle: list[Array], busy: list[Array], rows: npt.NDArray[np.int64], quantile: float) -> float:
    calm = np.concatenate([idle[row] for row in rows])
    loaded = np.concatenate([busy[row] for row in rows])
    return float(np.quantile(loaded, quantile)) / float(np.quantile(calm, quantile))


def _coverage(n: int, rank: int) -> float:
    """Return how surely the median lies between the rank-th smallest and the rank-th largest of n."""
    return 1.0 - 2.0 * sum(comb(n, k) for k in range(rank)) / 2.0**n
