"""Tell which boxes count by where they lie in the frame: pure geometry, all boxes at once.

A box counts by its centre (see `fleet_contracts.samples.Region`): the centre of a defect moves less from
model to model than its outline, so box and gate agree, and it costs a few array operations a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from detection.detections import Floats, Mask
from fleet_contracts.samples import Region


class RegionMask:
    """Hold the regions of one camera as one table of polygon sides.

    A point on a side that two regions share belongs to exactly one of them, as each side holds its upper
    and left end and not its lower and right one.
    """

    def __init__(self, regions: Sequence[Region], camera: str) -> None:
        held = [region for region in regions if region.camera in (None, camera)]
        # Include regions first, so that one cut separates the two kinds.
        held.sort(key=lambda region: region.kind != "include")
        self._include = sum(region.kind == "include" for region in held)
        self._count = len(held)
        sides = [_sides(region) for region in held]
        table = np.concatenate(sides) if sides else np.empty((0, 4), np.float64)
        self._x1, self._y1 = table[:, 0:1], table[:, 1:2]
        self._y2 = table[:, 3:4]
        height = np.where(self._y2 == self._y1, 1.0, self._y2 - self._y1)
        self._slope = (table[:, 2:3] - self._x1) / height
        self._starts = np.cumsum([0, *(len(rows) for rows in sides)])[:-1].astype(np.intp)

    def __bool__(self) -> bool:
        """Tell whether any region holds for this camera."""
        return self._count > 0

    def inside(self, xyxy: Floats, frame_size: tuple[int, int]) -> Mask:
        """Return which boxes count, (n,).

        Args:
            xyxy: (n, 4) corners in frame pixels.
            frame_size: width and height in pixels.
        """
        if self._count == 0 or len(xyxy) == 0:
            return np.ones(len(xyxy), np.bool_)
        # Double precision: a centre is then the same in every room, whatever the frame's size.
        x = (xyxy[:, 0].astype(np.float64) + xyxy[:, 2]) / (2.0 * frame_size[0])
        y = (xyxy[:, 1].astype(np.float64) + xyxy[:, 3]) / (2.0 * frame_size[1])
        # Even-odd: a ray to the left crosses the sides of a region an odd number of times.
        crossed = ((self._y1 > y) != (self._y2 > y)) & (self._slope * (y - self._y1) + self._x1 <= x)
        within = np.logical_xor.reduceat(crossed, self._starts, axis=0)
        counts: Mask = np.logical_not(np.any(within[self._include :], axis=0))
        if self._include:
            counts &= np.any(within[: self._include], axis=0)
        return counts


def _sides(region: Region) -> npt.NDArray[np.float64]:
    """Return the sides of a polygon as rows x1 y1 x2 y2."""
    corners = np.asarray(region.polygon, np.float64)
    return np.concatenate((corners, np.roll(corners, -1, axis=0)), axis=1)
