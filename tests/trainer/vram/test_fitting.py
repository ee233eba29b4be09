"""Fit sizes: what is exact is found, what is not is bounded, what cannot be matched is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.vram.fitting import MONOMIALS, Trace, TracedBlock, TracesDiffer, fit_sizes, fit_timeline
from trainer.vram.profile import evaluated

ROWS = (
    {"B": 2, "P": 4096, "S": 64, "n": 3, "T": 5, "C": 57, "F": 34, "f": 5},
    {"B": 2, "P": 9216, "S": 96, "n": 3, "T": 5, "C": 122, "F": 33, "f": 5},
    {"B": 3, "P": 4096, "S": 64, "n": 3, "T": 7, "C": 71, "F": 40, "f": 7},
    {"B": 2, "P": 4096, "S": 64, "n": 7, "T": 9, "C": 110, "F": 59, "f": 9},
)


def values() -> dict[str, list[int]]:
    """Return what every monomial is worth in the four rows."""
    return {monomial: [evaluated(((monomial, 1.0),), row) for row in ROWS] for monomial in MONOMIALS}


@given(st.sampled_from([name for name in MONOMIALS if name != "f"]), st.integers(1, 4096))
def test_one_monomial_is_found_again(monomial: str, factor: int) -> None:
    """Four small settings tell every monomial from every other."""
    sizes = [factor * value for value in values()[monomial]]
    assert fit_sizes(sizes, values()) == (((monomial, float(factor)),), True)


@given(st.integers(1, 512), st.integers(1, 512))
def test_a_sum_of_two_is_met_exactly(one: int, two: int) -> None:
    """A block with an entry an image and one more is met in every row, whatever two monomials say it."""
    known = values()
    sizes = [one * a + two * b for a, b in zip(known["B"], known["n"], strict=True)]
    polynomial, exact = fit_sizes(sizes, known)
    assert exact
    assert [evaluated(polynomial, row) for row in ROWS] == sizes


@given(st.sampled_from([2, 4, 8, 16]), st.sampled_from([-1, 1, 2]), st.integers(1, 64))
def test_images_a_pixel_smaller_are_not_taken_for_a_power(stride: int, off: int, factor: int) -> None:
    """Pooling without padding takes a pixel off a side; at other sizes only the true rule holds."""
    sizes = [4 * factor * row["B"] * (row["S"] // stride + off) ** 2 for row in ROWS]
    polynomial, exact = fit_sizes(sizes, values())
    assert exact
    larger = {**ROWS[0], "S": 640, "P": 640**2}
    assert evaluated(polynomial, larger) == 4 * factor * 2 * (640 // stride + off) ** 2


def test_two_powers_of_the_side_are_never_combined() -> None:
    """Two image sizes would agree with any pair of them, so such a size is bounded instead."""
    known = values()
    sizes = [3 * a + 7 * b for a, b in zip(known["BP"], known["BPP"], strict=True)]
    assert not fit_sizes(sizes, known)[1]


def test_what_fits_nothing_is_bounded_from_above() -> None:
    """No traced size is undercut."""
    sizes = [1000, 1717, 3331, 999]
    polynomial, exact = fit_sizes(sizes, values())
    assert not exact
    assert all(evaluated(polynomial, row) >= size for row, size in zip(ROWS, sizes, strict=True))


def traces(*operations: list[str]) -> list[Trace]:
    """Return a trace of one block for each list of operations."""
    block = TracedBlock(0, 0, 512, "loss", 1)
    return [Trace(row, told, [("loss", 0)], [block]) for row, told in zip(ROWS, operations, strict=False)]


def test_different_operations_are_refused_with_the_place() -> None:
    """Blocks of two different programs must not be matched."""
    with pytest.raises(TracesDiffer, match="operation 1"):
        fit_timeline(traces(["a", "b"], ["a", "c"]))


def test_a_block_that_only_some_settings_make_is_kept() -> None:
    """A copy that one shape needs and another does not is counted, not lost."""
    one, two = traces(["a", "b"], ["a", "b"])
    fitted = fit_timeline([one, Trace(two.symbols, two.operations, two.marks, [])])
    assert len(fitted.timeline.blocks) == 1
