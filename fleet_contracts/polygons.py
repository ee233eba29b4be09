"""Tell what is wrong with a polygon before anybody decides by it.

>>> polygon_problem(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
''
>>> polygon_problem(((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)))
'its corners lie on a line, so it has no area'
"""

from __future__ import annotations

from typing import TypeAlias

Point: TypeAlias = "tuple[float, float]"
Polygon: TypeAlias = "tuple[Point, ...]"
LEAST_AREA = 1e-6
"""Share of the frame; a pixel of a 1,000 by 1,000 frame."""


def polygon_problem(polygon: Polygon) -> str:
    """Say why a polygon cannot be used, or return an empty string.

    Of a polygon that crosses itself nobody can say what is inside, and one without area holds nothing.
    """
    if len(set(polygon)) != len(polygon):
        return "a corner is named twice; the polygon closes itself"
    if abs(_area(polygon)) < LEAST_AREA and not _crossing(polygon):
        return "its corners lie on a line, so it has no area"
    crossing = _crossing(polygon)
    if crossing is not None:
        first, second = crossing
        return f"its sides {first + 1} and {second + 1} cross; give the corners in order around the area"
    return ""


def _area(polygon: Polygon) -> float:
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in _sides(polygon)) / 2


def _sides(polygon: Polygon) -> list[tuple[Point, Point]]:
    return list(zip(polygon, (*polygon[1:], polygon[0]), strict=True))


def _crossing(polygon: Polygon) -> tuple[int, int] | None:
    """Return the first two sides that are not neighbours and meet."""
    sides = _sides(polygon)
    last = len(sides) - 1
    for first in range(len(sides)):
        for second in range(first + 2, len(sides)):
            if (first, second) != (0, last) and _meet(*sides[first], *sides[second]):
                return first, second
    return None


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    turns = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if turns[0] != turns[1] and turns[2] != turns[3]:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(turn == 0 and _within(*three) for turn, three in zip(turns, ends, strict=True))


def _turn(a: Point, b: Point, c: Point) -> int:
    cross = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return 0 if abs(cross) < 1e-12 else (1 if cross > 0 else -1)


def _within(a: Point, b: Point, point: Point) -> bool:
    """Tell whether a point on the line through `a` and `b` lies between them."""
    return all(min(a[axis], b[axis]) <= point[axis] <= max(a[axis], b[axis]) for axis in (0, 1))
