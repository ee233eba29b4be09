"""Describe boards before they are drawn: layouts, components and how a part lies under the camera.

First station of the simulated line. Coordinates are pixels of the board, origin top left, x to the
right; angles in degrees, turning from x towards y.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

BOARD = 264
"""Side of a board in pixels."""
FRAME = 320
"""Side of a camera frame in pixels."""
LAYOUTS = 6
"""Products that run on the line."""
_LAYOUT_SEED = 20_261
_CELLS = 4
_MARGIN = 20

Points = NDArray[np.float64]
"""Corner points, shape (n, 2), x and y."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Hold where a component belongs: its pads are printed on the board whether it is there or not."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    upright: bool

    @property
    def extent(self) -> tuple[float, float]:
        """Return width and height as they lie on the board."""
        return (self.height, self.width) if self.upright else (self.width, self.height)


@dataclass(frozen=True, slots=True)
class Placement:
    """Hold where a component really sits, relative to its footprint."""

    footprint: Footprint
    dx: float = 0.0
    dy: float = 0.0
    turn: float = 0.0
    present: bool = True

    def corners(self, margin: float = 0.0) -> Points:
        """Return the four corners of the component's body, grown by `margin`."""
        width, height = self.footprint.extent
        half = np.array([width / 2 + margin, height / 2 + margin])
        unit = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * half
        centre = np.array([self.footprint.x + self.dx, self.footprint.y + self.dy])
        turned: Points = unit @ turn_matrix(self.turn).T + centre
        return turned


@dataclass(frozen=True, slots=True)
class Pose:
    """Say how a board lies under the camera."""

    angle: float
    shift_x: float
    shift_y: float

    def matrix(self) -> NDArray[np.float64]:
        """Return the affine matrix (2, 3) from board to frame pixels."""
        turn = turn_matrix(self.angle)
        middle = np.array([FRAME / 2 + self.shift_x, FRAME / 2 + self.shift_y])
        offset = middle - turn @ np.array([BOARD / 2, BOARD / 2])
        return np.hstack([turn, offset[:, None]])


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold a defect on the surface: its kind, how it looks and where it runs."""

    kind: str
    look: str
    points: Points
    strength: float
    thickness: float
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """Hold everything the renderer needs to draw one board."""

    layout: int
    placements: tuple[Placement, ...]
    pose: Pose
    light: float
    tint: tuple[float, float, float]
    noise_seed: int
    marks: tuple[Mark, ...] = ()
    defects: tuple[tuple[str, Points], ...] = field(default=())
    """Kind and outline of every defect, in board pixels."""


def turn_matrix(degrees: float) -> NDArray[np.float64]:
    """Return the rotation matrix (2, 2) for an angle."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@cache
def layout(number: int) -> tuple[Footprint, ...]:
    """Return the components of one product; the same number gives the same product for ever."""
    rng = np.random.default_rng([_LAYOUT_SEED, number])
    cell = (BOARD - 2 * _MARGIN) / _CELLS
    found: list[Footprint] = []
    for row in range(_CELLS):
        for column in range(_CELLS):
            centre = (_MARGIN + cell * (column + 0.5), _MARGIN + cell * (row + 0.5))
            found.extend(_fill_cell(rng, centre, cell))
    return tuple(found)


def _fill_cell(rng: np.random.Generator, centre: tuple[float, float], cell: float) -> list[Footprint]:
    choice = rng.choice(["chip", "pair", "can", "single", "empty"], p=[0.2, 0.3, 0.2, 0.15, 0.15])
    upright = bool(rng.random() < 0.5)
    x, y = centre[0] + rng.uniform(-4, 4), centre[1] + rng.uniform(-4, 4)
    if choice == "chip":
        return [Footprint("chip", x, y, 34, 28, upright)]
    if choice == "can":
        size = float(rng.uniform(19, 25))
        return [Footprint("can", x, y, size, size, upright)]
    if choice == "single":
        return [Footprint("diode", x, y, 30, 13, upright)]
    if choice == "pair":
        away = cell / 4.5
        step = (away, 0.0) if upright else (0.0, away)
        return [
            Footprint("resistor", x + sign * step[0], y + sign * step[1], 24, 12, upright) for sign in (-1, 1)
        ]
    return []


def fresh_part(rng: np.random.Generator) -> Part:
    """Return a faultless part: every component present, within its placement tolerance."""
    number = int(rng.integers(LAYOUTS))
    placements = tuple(
        Placement(footprint, rng.normal(0, 0.7), rng.normal(0, 0.7), rng.normal(0, 1.2))
        for footprint in layout(number)
    )
    pose = Pose(
        angle=float(rng.integers(4) * 90 + rng.uniform(-7, 7)),
        shift_x=float(rng.uniform(-12, 12)),
        shift_y=float(rng.uniform(-12, 12)),
    )
    tint = rng.normal(0, 1.0, 3)
    return Part(
        layout=number,
        placements=placements,
        pose=pose,
        light=float(rng.uniform(0.75, 1.15)),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        noise_seed=int(rng.integers(2**31)),
    )
