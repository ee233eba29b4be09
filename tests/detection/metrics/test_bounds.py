"""Hold the exact bounds against the definition, published values and the coverage they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detection.metrics.bounds import cases_needed, lower_bound, upper_bound


def at_most(hits: int, cases: int, share: float) -> float:
    """Return the binomial sum term by term."""
    return sum(math.comb(cases, i) * share**i * (1 - share) ** (cases - i) for i in range(hits + 1))


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "cases"), [(0, 1), (0, 10), (1, 10), (3, 40), (9, 10), (25, 300), (150, 300)])
def test_the_bound_is_where_the_binomial_sum_says(hits: int, cases: int, confidence: float) -> None:
    """At the upper bound so few hits have the probability 1 - confidence, and at the lower one so many."""
    upper = upper_bound(hits, cases, confidence)
    assert at_most(hits, cases, upper) == pytest.approx(1 - confidence, rel=1e-6)
    if hits:
        lower = lower_bound(hits, cases, confidence)
        assert 1 - at_most(hits - 1, cases, lower) == pytest.approx(1 - confidence, rel=1e-6)


def test_published_values() -> None:
    """Two-sided 95 % of 4 in 20 is 0.0573 to 0.4366 (Clopper and Pearson's table); none in 59 is under 5 %."""
    assert lower_bound(4, 20, 0.975) == pytest.approx(0.0573, abs=5e-5)
    assert upper_bound(4, 20, 0.975) == pytest.approx(0.4366, abs=5e-5)
    assert upper_bound(0, 59, 0.95) < 0.05 < upper_bound(0, 58, 0.95)


def test_edges() -> None:
    """Nothing counted bounds nothing, everything hit leaves the bound at one, and large counts stay exact."""
    assert upper_bound(0, 0, 0.95) == 1.0
    assert lower_bound(0, 0, 0.95) == 0.0
    assert upper_bound(7, 7, 0.95) == 1.0
    assert upper_bound(0, 1_000_000, 0.95) == pytest.approx(-math.log(0.05) / 1e6, rel=1e-3)
    assert 0.0100 < upper_bound(10_000, 1_000_000, 0.95) < 0.0102


@pytest.mark.parametrize("share", [0.005, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("hits", [0, 1, 2, 7])
def test_cases_needed_is_the_least_number(share: float, hits: int) -> None:
    """So many cases reach the share, one fewer does not."""
    cases = cases_needed(share, 0.95, hits)
    assert upper_bound(hits, cases, 0.95) <= share
    assert upper_bound(hits, cases - 1, 0.95) > share


def test_the_bound_covers_as_often_as_it_says() -> None:
    """Of many counts of a known share, the bound lies under it in at most one of twenty."""
    random = np.random.default_rng(5)
    for share in (0.02, 0.1, 0.4):
        hits = random.binomial(60, share, size=3000)
        bounds = {int(count): upper_bound(int(count), 60, 0.95) for count in np.unique(hits)}
        failed = np.mean([bounds[int(count)] < share for count in hits])
        assert failed <= 0.05 + 0.012


@pytest.mark.parametrize(("hits", "cases", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 2, 1.0)])
def test_impossible_counts_are_refused(hits: int, cases: int, confidence: float) -> None:
    """More hits than cases, or certainty, cannot be bounded."""
    with pytest.raises(ValueError, match="expected"):
        upper_bound(hits, cases, confidence)
    with pytest.raises(ValueError, match="expected"):
        cases_needed(0.0, 0.95)
