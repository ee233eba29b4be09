"""Put defects on a part: the kinds the first champion knows, and what comes half-way.

* scratch: a cut in the solder mask; `dull` dark hairlines at first, later `bright`: copper shows
* missing: a component that is not on its pads
* misplaced: a component shifted or turned beyond its tolerance
* stain: flux residue; the class that is added half-way
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from demo.line.parts import BOARD, Mark, Part, Placement, Points

KNOWN_KINDS = ("scratch", "missing", "misplaced")
NEW_KIND = "stain"
_EDGE = 16
_TRIES = 20
_HIDDEN_SHARE = 0.35
"""Most of a scratch lies on bare board: nobody can label what cannot be seen."""


def add_defect(part: Part, kind: str, look: str, rng: np.random.Generator) -> Part:
    """Return the part with one more defect; unchanged where no free place was found.

    `kind` is one of `KNOWN_KINDS` or `NEW_KIND`; `look` is `dull` or `bright`, and only a scratch has
    more than one.
    """
    makers: dict[str, Callable[[Part, str, np.random.Generator], Part | None]] = {
        "scratch": _scratch,
        "missing": _missing,
        "misplaced": _misplaced,
        NEW_KIND: _stain,
    }
    for _ in range(_TRIES):
        made = makers[kind](part, look, rng)
        if made is not None and _is_clear(part, made.defects[-1][1]):
            return made
    return part


def _share_on_bodies(part: Part, points: Points) -> float:
    """Return the share of points that lie on a component, where a mark could hardly be seen."""
    covered = np.zeros(len(points), bool)
    for placement in part.placements:
        corners = placement.corners(margin=1.0)
        inside = (points >= corners.min(axis=0)) & (points <= corners.max(axis=0))
        covered |= inside.all(axis=1)
    return float(covered.mean())


def _is_clear(part: Part, outline: Points) -> bool:
    low, high = outline.min(axis=0), outline.max(axis=0)
    if (low < 4).any() or (high > BOARD - 4).any():
        return False
    for _, other in part.defects:
        if (other.min(axis=0) < high + 4).all() and (low < other.max(axis=0) + 4).all():
            return False
    return True


def _with_mark(part: Part, mark: Mark, outline: Points) -> Part:
    return replace(
        part, marks=(*part.marks, mark), defects=(*part.defects, (mark.kind, outline))
    )


def _scratch(part: Part, look: str, rng: np.random.Generator) -> Part | None:
    dull = look == "dull"
    length = rng.uniform(38, 95) if dull else rng.uniform(48, 95)
    # Hairlines along the frame's axes would have boxes too thin to match by overlap.
    heading = np.deg2rad(rng.integers(4) * 90 + rng.uniform(22, 68))
    bend = rng.normal(0, 0.12) if dull else rng.choice([-1, 1]) * rng.uniform(0.5, 1.0)
    steps = 12
    headings = heading + bend * np.linspace(-1, 1, steps)
    walk = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps), axis=0)
    points = walk - walk.mean(axis=0) + rng.uniform(_EDGE, BOARD - _EDGE, 2)
    if _share_on_bodies(part, points) > _HIDDEN_SHARE:
        return None
    mark = Mark(
        kind="scratch",
        look=look,
        points=points,
        strength=float(rng.uniform(0.45, 1.0) if dull else rng.uniform(0.75, 1.0)),
        thickness=float(rng.uniform(1.2, 3.0) if dull else rng.uniform(2.6, 4.4)),
        seed=int(rng.integers(2**31)),
    )
    return _with_mark(part, mark, _grown(points, 4.0))


def _stain(part: Part, look: str, rng: np.random.Generator) -> Part:
    radius = rng.uniform(12, 26)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    reach = radius * rng.uniform(0.6, 1.15, 9)
    stretch = np.array([1.0, rng.uniform(0.6, 1.0)])
    centre = rng.uniform(_EDGE + 10, BOARD - _EDGE - 10, 2)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None] * stretch + centre
    mark = Mark(
        kind=NEW_KIND,
        look=look,
        points=points,
        strength=float(rng.uniform(0.6, 1.0)),
        thickness=float(rng.uniform(2.0, 4.0)),
        seed=int(rng.integers(2**31)),
    )
    return _with_mark(part, mark, _grown(points, 3.0))


def _missing(part: Part, _look: str, rng: np.random.Generator) -> Part | None:
    chosen = _choose(part, rng)
    if chosen is None:
        return None
    return _placed(part, chosen, replace(part.placements[chosen], present=False), "missing")


def _misplaced(part: Part, _look: str, rng: np.random.Generator) -> Part | None:
    chosen = _choose(part, rng)
    if chosen is None:
        return None
    old = part.placements[chosen]
    if old.footprint.kind == "can" or rng.random() < 0.4:
        angle = rng.uniform(0, 2 * np.pi)
        away = rng.uniform(5.0, 10.5)
        moved = replace(old, dx=float(away * np.cos(angle)), dy=float(away * np.sin(angle)))
    else:
        moved = replace(old, turn=float(rng.choice([-1, 1]) * rng.uniform(14, 45)))
    return _placed(part, chosen, moved, "misplaced")


def _choose(part: Part, rng: np.random.Generator) -> int | None:
    still = [index for index, item in enumerate(part.placements) if item.present]
    return int(rng.choice(still)) if still else None


def _placed(part: Part, index: int, placement: Placement, kind: str) -> Part:
    placements = (*part.placements[:index], placement, *part.placements[index + 1 :])
    outline = placement.corners(margin=5.0)
    return replace(part, placements=placements, defects=(*part.defects, (kind, outline)))


def _grown(points: Points, margin: float) -> Points:
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    return np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
