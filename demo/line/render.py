"""Draw a part as the camera sees it, and say in frame pixels what is wrong with it.

Boards are drawn flat and upright, then turned and shifted onto the conveyor by one affine warp; the
same matrix carries the outlines of the defects, so picture and truth cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.line.parts import BOARD, FRAME, Footprint, Mark, Part, Placement, Points, layout

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
_PAD: Colour = (96, 176, 205)
_BODIES: dict[str, Colour] = {
    "chip": (48, 44, 42),
    "resistor": (38, 34, 36),
    "diode": (40, 52, 120),
    "can": (172, 168, 164),
}
_SHIFT = 4
"""Fixed-point bits of cv2's drawing coordinates: lines land on sixteenths of a pixel."""
_OVERSHOOT = 0.15


@dataclass(frozen=True, slots=True)
class TruthBox:
    """Say what is wrong and where: corners in frame pixels, clipped to the frame."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold a frame (BGR) and the truth about it."""

    image: Image
    truth: tuple[TruthBox, ...]


def render(part: Part) -> Picture:
    """Draw one part; the same part gives the same pixels."""
    rng = np.random.default_rng(part.noise_seed)
    board = _bare_board(part.layout).copy()
    for placement in part.placements:
        if placement.present:
            _draw_component(board, placement)
    for mark in part.marks:
        _draw_mark(board, mark)
    matrix = part.pose.matrix()
    frame = _conveyor(rng)
    cv2.warpAffine(
        board, matrix, (FRAME, FRAME), dst=frame, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
    )
    truth = tuple(_truth(kind, outline, matrix) for kind, outline in part.defects)
    return Picture(_expose(frame, part, rng), truth)


def _truth(kind: str, outline: Points, matrix: NDArray[np.float64]) -> TruthBox:
    seen = outline @ matrix[:, :2].T + matrix[:, 2]
    low, high = np.clip(seen.min(axis=0), 0, FRAME), np.clip(seen.max(axis=0), 0, FRAME)
    return TruthBox(kind, float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _fixed(points: Points) -> NDArray[np.int32]:
    return np.round(points * (1 << _SHIFT)).astype(np.int32)


def _fill(image: Image, points: Points, colour: Colour) -> None:
    cv2.fillConvexPoly(image, _fixed(points), colour, cv2.LINE_AA, _SHIFT)


@cache
def _bare_board(number: int) -> Image:
    rng = np.random.default_rng([77, number])
    board = np.full((BOARD, BOARD, 3), (58, 92, 34), np.uint8)
    for _ in range(22):
        _draw_trace(board, rng)
    for corner in ((12, 12), (BOARD - 13, 12), (12, BOARD - 13), (BOARD - 13, BOARD - 13)):
        cv2.circle(board, corner, 6, _PAD, -1, cv2.LINE_AA)
        cv2.circle(board, corner, 3, (40, 40, 40), -1, cv2.LINE_AA)
    for footprint in layout(number):
        _draw_pads(board, footprint)
    cv2.putText(board, f"WS-{number + 1}", (26, BOARD - 7), cv2.FONT_HERSHEY_PLAIN, 0.8, (205, 215, 205), 1,
                cv2.LINE_AA)
    return board


def _draw_trace(board: Image, rng: np.random.Generator) -> None:
    at = rng.uniform(20, BOARD - 20, 2)
    for turn in range(int(rng.integers(2, 4))):
        step = np.zeros(2)
        step[turn % 2] = rng.uniform(25, 80) * rng.choice([-1, 1])
        to = np.clip(at + step, 14, BOARD - 14)
        cv2.line(board, _point(at), _point(to), (72, 118, 48), 2, cv2.LINE_AA, _SHIFT)
        at = to
    cv2.circle(board, _point(at), 3 << _SHIFT, (80, 140, 120), -1, cv2.LINE_AA, _SHIFT)


def _point(at: NDArray[np.float64]) -> tuple[int, int]:
    fixed = _fixed(at)
    return int(fixed[0]), int(fixed[1])


def _draw_pads(board: Image, footprint: Footprint) -> None:
    width, height = footprint.extent
    outline = Placement(footprint).corners(margin=2.5)
    cv2.polylines(board, [_fixed(outline)], isClosed=True, color=(185, 200, 185), thickness=1,
                  lineType=cv2.LINE_AA, shift=_SHIFT)
    if footprint.kind == "chip":
        rows = np.linspace(-height / 3, height / 3, 4)
        ends = [(sign * width / 2, float(row)) for sign in (-1, 1) for row in rows]
        size = (4.0, 3.0)
    elif footprint.upright:
        ends, size = [(0.0, -height / 2 + 2), (0.0, height / 2 - 2)], (width * 0.8, 7.0)
    else:
        ends, size = [(-width / 2 + 2, 0.0), (width / 2 - 2, 0.0)], (7.0, height * 0.8)
    for dx, dy in ends:
        low = np.array([footprint.x + dx - size[0] / 2, footprint.y + dy - size[1] / 2])
        high = low + np.array(size)
        _fill(board, np.array([low, [high[0], low[1]], high, [low[0], high[1]]]), _PAD)


def _draw_component(board: Image, placement: Placement) -> None:
    footprint = placement.footprint
    corners = placement.corners()
    centre = corners.mean(axis=0)
    if footprint.kind == "can":
        radius = int(footprint.width / 2 * (1 << _SHIFT))
        cv2.circle(board, _point(centre + 1.5), radius, (28, 44, 20), -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(board, _point(centre), radius, _BODIES["can"], -1, cv2.LINE_AA, _SHIFT)
        cv2.ellipse(board, tuple(int(v) for v in np.round(centre)), (int(footprint.width / 2) - 2,) * 2,
                    placement.turn, 0, 150, (70, 70, 72), 3, cv2.LINE_AA)
        return
    _fill(board, corners + 1.5, (28, 44, 20))
    _fill(board, corners, _BODIES[footprint.kind])
    along = (corners[1] - corners[0], corners[3] - corners[0])
    if footprint.kind == "chip":
        dot = centre - 0.32 * along[0] - 0.3 * along[1]
        cv2.circle(board, _point(dot), 2 << _SHIFT, (150, 150, 150), -1, cv2.LINE_AA, _SHIFT)
        return
    long, wide = along if not footprint.upright else (along[1], along[0])
    for share in (0.42, -0.42) if footprint.kind == "resistor" else (0.36,):
        middle = centre + share * long
        cap = np.array([middle - 0.08 * long - 0.5 * wide, middle + 0.08 * long - 0.5 * wide,
                        middle + 0.08 * long + 0.5 * wide, middle - 0.08 * long + 0.5 * wide])
        _fill(board, cap, (190, 196, 200))


def _draw_mark(board: Image, mark: Mark) -> None:
    mask = np.zeros((BOARD, BOARD), np.uint8)
    if mark.kind == "scratch":
        cv2.polylines(mask, [_fixed(mark.points)], isClosed=False, color=255, lineType=cv2.LINE_AA,
                      thickness=max(1, round(mark.thickness)), shift=_SHIFT)
        colour = (30, 44, 22) if mark.look == "dull" else (80, 150, 255)
        _blend(board, cv2.GaussianBlur(mask, (3, 3), 0.6), colour, mark.strength)
        return
    cv2.fillPoly(mask, [_fixed(mark.points)], 255, cv2.LINE_AA, _SHIFT)
    soft = cv2.GaussianBlur(mask, (0, 0), mark.thickness)
    rim = cv2.morphologyEx(soft, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    _blend(board, soft, (150, 190, 205), mark.strength * 0.75)
    _blend(board, rim, (60, 110, 150), mark.strength)


def _blend(board: Image, mask: NDArray[np.generic], colour: Colour, strength: float) -> None:
    weight = mask.astype(np.float32)[:, :, None] * (strength / 255.0)
    mixed = board * (1.0 - weight) + np.array(colour, np.float32) * weight
    board[:] = np.clip(mixed, 0, 255).astype(np.uint8)


def _conveyor(rng: np.random.Generator) -> Image:
    level = int(rng.integers(70, 105))
    frame = np.full((FRAME, FRAME, 3), level, np.uint8)
    offset = int(rng.integers(0, 24))
    for x in range(offset, FRAME, 24):
        cv2.line(frame, (x, 0), (x, FRAME), (level - 12, level - 12, level - 12), 2)
    return frame


def _expose(frame: Image, part: Part, rng: np.random.Generator) -> Image:
    tilt = rng.uniform(-_OVERSHOOT, _OVERSHOOT, 2)
    ramp = np.linspace(-0.5, 0.5, FRAME, dtype=np.float32)
    light = part.light * (1.0 + tilt[0] * ramp[None, :] + tilt[1] * ramp[:, None])
    noise = rng.standard_normal((FRAME // 2, FRAME // 2), np.float32)
    grain = cv2.resize(noise, (FRAME, FRAME), interpolation=cv2.INTER_LINEAR) * 5.0
    lit = frame * light[:, :, None] + grain[:, :, None] + np.array(part.tint, np.float32) * 4.0
    sharp = np.clip(lit, 0, 255).astype(np.uint8)
    blurred: Image = np.asarray(cv2.GaussianBlur(sharp, (3, 3), float(rng.uniform(0.3, 0.9))), np.uint8)
    return blurred
