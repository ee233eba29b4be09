"""Bound a share that was counted on few cases: Clopper-Pearson, exact for every number of them.

Pure, without scipy: the binomial sum is added up in logarithms and inverted by bisection.

    >>> round(upper_bound(0, 59, 0.95), 4)
    0.0495
    >>> cases_needed(0.05, 0.95)
    59
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

_ROUNDS = 60
"""Of bisection: more digits than a double has."""
MOST_CASES = 10_000_000
"""Beyond which `cases_needed` does not count."""


def upper_bound(hits: int, cases: int, confidence: float) -> float:
    """Return the largest share that still explains so few hits, one-sided.

    Were the true share larger, `hits` or fewer of `cases` would come with a probability under
    1 - confidence (Clopper and Pearson, Biometrika 26, 1934). Without cases it is 1.

    Raises:
        ValueError: more hits than cases, or a confidence outside (0, 1).
    """
    _require(hits, cases, confidence)
    return 1.0 if hits >= cases else _inverted(hits, cases, confidence)


@lru_cache(maxsize=1024)
def _inverted(hits: int, cases: int, confidence: float) -> float:
    low, high = hits / cases, 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if _at_most(hits, cases, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def lower_bound(hits: int, cases: int, confidence: float) -> float:
    """Return the smallest share that still explains so many hits, one-sided; without cases it is 0."""
    return 1.0 - upper_bound(cases - hits, cases, confidence)


def cases_needed(share: float, confidence: float, hits: int = 0) -> int:
    """Return how many cases with so many hits among them are needed for `upper_bound` to reach a share.

    Raises:
        ValueError: a share or confidence outside (0, 1), or more than ten million cases would be needed.
    """
    if not 0.0 < share < 1.0 or not 0.0 < confidence < 1.0 or hits < 0:
        raise ValueError(
            f"expected share and confidence between 0 and 1, got {share}, {confidence}, {hits} hits"
        )
    if hits == 0:
        # (1 - share)^n <= 1 - confidence; the last step guards against rounding.
        cases = max(1, math.ceil(math.log(1.0 - confidence) / math.log1p(-share)))
        return cases if upper_bound(0, cases, confidence) <= share else cases + 1
    low, high = hits, hits + 1
    while upper_bound(hits, high, confidence) > share:
        low, high = high, high * 2
        if high > MOST_CASES:
            raise ValueError(f"expected a share that some cases can show, got {share}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(hits, middle, confidence) <= share else (middle, high)
    return high


def _at_most(hits: int, cases: int, share: float) -> float:
    """Return the probability of at most `hits` hits in `cases` at a share between 0 and 1."""
    if share <= 0.0:
        return 1.0
    if share >= 1.0:
        return 0.0
    steps = np.arange(hits, dtype=np.float64)
    # From one term of the sum to the next: (n - i) / (i + 1) * p / (1 - p).
    ratios = np.log(cases - steps) - np.log(steps + 1.0) + math.log(share) - math.log1p(-share)
    terms = cases * math.log1p(-share) + np.concatenate(([0.0], np.cumsum(ratios)))
    most = float(terms.max())
    return min(1.0, math.exp(most) * float(np.exp(terms - most).sum()))


def _require(hits: int, cases: int, confidence: float) -> None:
    if not 0 <= hits <= cases or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"expected 0 to {cases} hits and a confidence between 0 and 1, got {hits} and {confidence}"
        )
