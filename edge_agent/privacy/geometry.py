"""Turn shares of a picture into pixels and move boxes into a crop; pure.

What is hidden grows to whole pixels, what is kept shrinks to them, so that no edge shows through.

    >>> hidden_box((0.1, 0.0, 0.25, 1.0), 10, 10)
    (1, 0, 3, 10)
    >>> kept_box((0.1, 0.0, 0.25, 1.0), 10, 10)
    (1, 0, 2, 10)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from detection.detections import Detections, Mask

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are not part of it."""
MIN_SIDE = 1.0
"""A box of which less than this, in pixels, is left within a crop is dropped."""
TOLERANCE = 1e-9
"""A share times a side may miss a whole pixel by the rounding of floats."""


def hidden_box(shares: Sequence[float], width: int, height: int) -> Box:
    """Return every pixel the rectangle touches."""
    left, top, right, bottom = shares
    return (_down(left * width), _down(top * height), _up(right * width), _up(bottom * height))


def kept_box(shares: Sequence[float], width: int, height: int) -> Box:
    """Return the pixels that lie wholly within the rectangle, at least one."""
    left, top, right, bottom = shares
    x1, y1 = min(_up(left * width), width - 1), min(_up(top * height), height - 1)
    return (x1, y1, max(x1 + 1, _down(right * width)), max(y1 + 1, _down(bottom * height)))


def hidden_polygon(shares: Sequence[Sequence[float]], width: int, height: int) -> npt.NDArray[np.int32]:
    """Return the corners, (n, 2), of the polygon in pixels."""
    corners = np.asarray(shares, np.float64) * (width, height)
    return np.rint(corners).astype(np.int32)


def boxes_of(found: Detections, rows: Mask, margin: float, size: tuple[int, int]) -> list[Box]:
    """Return the boxes of some detections, widened by a share of their size and cut at the picture's edge.

    Args:
        found: detections in pixels.
        rows: which of them are wanted.
        margin: share of its size by which a box grows on every side.
        size: width and height of the picture.
    """
    width, height = size
    boxes: list[Box] = []
    for x1, y1, x2, y2 in found.xyxy[rows].tolist():
        wider, higher = margin * (x2 - x1), margin * (y2 - y1)
        box = (
            min(max(_down(x1 - wider), 0), width),
            min(max(_down(y1 - higher), 0), height),
            min(max(_up(x2 + wider), 0), width),
            min(max(_up(y2 + higher), 0), height),
        )
        if box[0] < box[2] and box[1] < box[3]:
            boxes.append(box)
    return boxes


def move_into(found: Detections, crop: Box) -> Detections:
    """Return detections in the crop's pixels; those cut by its edge are cut, those outside are dropped."""
    left, top, right, bottom = crop
    moved = found.xyxy - np.asarray((left, top, left, top), np.float32)
    limits = np.asarray((right - left, bottom - top) * 2, np.float32)
    moved = np.minimum(np.maximum(moved, np.float32(0)), limits)
    inside: Mask = np.asarray(((moved[:, 2:] - moved[:, :2]) >= MIN_SIDE).all(axis=1), np.bool_)
    return replace(found.select(inside), xyxy=moved[inside])


def _down(value: float) -> int:
    return math.floor(value + TOLERANCE)


def _up(value: float) -> int:
    return math.ceil(value - TOLERANCE)
