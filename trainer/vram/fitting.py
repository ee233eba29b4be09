"""Find how each block's size grows from a few small traces of the same step; pure.

Blocks at the same place in the same sequence of operations are the same block. Its bytes are met exactly by
one monomial, by images a pixel larger or smaller than a fraction of the input, or by two monomials; only what
none of them meets is bounded from above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

from trainer.vram.profile import TERMS, Block, Polynomial, Timeline

MONOMIALS = (
    "", "BP", "B", "P", "S", "BPP", "BS", "Bn", "n", "T", "BPn", "Pn", "TP", "C", "F", "f", "BPnn", "Bnn",
)  # fmt: skip
"""What a size may be made of, likelier ones first."""

_STRIDES = (1, 2, 4, 8, 16, 32, 64)
_OFF = (-1, 1, -2, 2)

Symbols = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TracedBlock:
    """Hold a block as one trace saw it; `place` tells those of one operation apart."""

    born: int
    place: int
    size: int
    term: str
    died: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Hold one traced step and the value that every symbol had in it."""

    symbols: Symbols
    operations: Sequence[str]
    marks: Sequence[tuple[str, int]]
    blocks: Sequence[TracedBlock]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Hold a timeline, and how many of the traced bytes its polynomials meet exactly."""

    timeline: Timeline
    exact_bytes: int
    all_bytes: int


class TracesDiffer(ValueError):
    """Tell that two traces of one network did not run the same operations, so nothing can be matched."""


def fit_timeline(traces: Sequence[Trace]) -> Fitted:
    """Return the timeline that the traces have in common.

    Raises:
        TracesDiffer: not the same operations in the same order.
    """
    first = traces[0]
    for other in traces[1:]:
        _require_same(first.operations, other.operations)
    found = [{(block.born, block.place): block for block in trace.blocks} for trace in traces]
    rows = [dict(trace.symbols) for trace in traces]
    values = {monomial: [_value(monomial, row) for row in rows] for monomial in MONOMIALS}
    known: dict[tuple[int, ...], tuple[Polynomial, bool]] = {}
    polynomials: dict[Polynomial, int] = {}
    blocks: list[Block] = []
    exact_bytes = all_bytes = 0
    for key in sorted(set().union(*found)):
        seen = [one[key] for one in found if key in one]
        sizes = tuple(one[key].size if key in one else 0 for one in found)
        if sizes not in known:
            known[sizes] = fit_sizes(sizes, values)
        polynomial, exact = known[sizes]
        number = polynomials.setdefault(polynomial, len(polynomials))
        died = min(max(block.died for block in seen), len(first.operations))
        blocks.append((key[0], died, number, [str(name) for name in TERMS].index(seen[0].term)))
        all_bytes += max(sizes)
        exact_bytes += max(sizes) if exact else 0
    timeline = Timeline(
        length=len(first.operations),
        marks=tuple(first.marks),
        polynomials=tuple(polynomials),
        blocks=tuple(blocks),
    )
    return Fitted(timeline, exact_bytes, all_bytes)


def fit_sizes(sizes: Sequence[int], values: Mapping[str, Sequence[int]]) -> tuple[Polynomial, bool]:
    """Return a polynomial for sizes seen where the monomials had these values, and whether it is exact."""
    for monomial, column in values.items():
        if all(column) and _proportional(sizes, column):
            return ((monomial, sizes[0] / column[0]),), True
    shifted = _shifted_square(sizes, values)
    if shifted is not None:
        return shifted, True
    for one, two in combinations(values, 2):
        # Two image sizes cannot tell two powers of the side apart: any pair of them would fit.
        if _powers(one) != _powers(two):
            continue
        factors = _solved(sizes, values[one], values[two])
        if factors is not None:
            return ((one, float(factors[0])), (two, float(factors[1]))), True
    return _bound(sizes, values), False


def _shifted_square(sizes: Sequence[int], values: Mapping[str, Sequence[int]]) -> Polynomial | None:
    """Return the polynomial of images whose side is a fraction of the input's, and a few pixels off.

    Pooling without padding takes a pixel off each side, padding by hand adds some.
    """
    images, sides = values["B"], values["S"]
    for stride, off in product(_STRIDES, _OFF):
        squares = [count * (side // stride + off) ** 2 for count, side in zip(images, sides, strict=True)]
        if all(squares) and sizes[0] % squares[0] == 0 and _proportional(sizes, squares):
            factor = sizes[0] / squares[0]
            return ("BP", factor / stride**2), ("BS", 2 * off * factor / stride), ("B", off**2 * factor)
    return None


def _powers(monomial: str) -> tuple[int, int]:
    return monomial.count("P"), monomial.count("S")


def _proportional(sizes: Sequence[int], column: Sequence[int]) -> bool:
    return all(size * column[0] == sizes[0] * value for size, value in zip(sizes, column, strict=True))


def _solved(sizes: Sequence[int], one: Sequence[int], two: Sequence[int]) -> tuple[Fraction, Fraction] | None:
    """Return factors above zero that meet every size, or None."""
    for number in range(1, len(sizes)):
        determinant = one[0] * two[number] - one[number] * two[0]
        if determinant:
            break
    else:
        return None
    first = Fraction(sizes[0] * two[number] - sizes[number] * two[0], determinant)
    second = Fraction(one[0] * sizes[number] - one[number] * sizes[0], determinant)
    if first <= 0 or second <= 0:
        return None
    met = all(a * first + b * second == size for a, b, size in zip(one, two, sizes, strict=True))
    return (first, second) if met else None


def _bound(sizes: Sequence[int], values: Mapping[str, Sequence[int]]) -> Polynomial:
    """Return the monomial closest to proportional, with the factor that no traced size exceeds."""
    best: tuple[float, str, float] | None = None
    for monomial, column in values.items():
        if not all(column):
            continue
        ratios = [size / value for size, value in zip(sizes, column, strict=True)]
        spread = max(ratios) / max(min(ratios), max(ratios) * 1e-6)
        if best is None or spread < best[0]:
            best = (spread, monomial, max(ratios))
    assert best is not None
    return ((best[1], best[2]),)


def _value(monomial: str, symbols: Symbols) -> int:
    product = 1
    for symbol in monomial:
        product *= symbols[symbol]
    return product


def _require_same(one: Sequence[str], other: Sequence[str]) -> None:
    if list(one) == list(other):
        return
    at = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), -1)
    counts = f"{len(one)} and {len(other)} operations"
    raise TracesDiffer(f"from operation {at}: {one[at : at + 1]} and {other[at : at + 1]} of {counts}")
