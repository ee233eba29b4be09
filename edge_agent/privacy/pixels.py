"""Cover pixels of a picture that is ours to write to.

A blur keeps a few averages of the region and nothing finer: enough to see that somebody stood there, too
little to see who. `black` keeps nothing at all.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_agent.privacy.geometry import Box
from edge_agent.settings.privacy import Cover

Picture = npt.NDArray[Any]
MIN_CELL_PX = 4
"""An average over fewer pixels would be close to the pixels themselves."""


def cover_box(picture: Picture, box: Box, cover: Cover, cells: int) -> None:
    """Cover a rectangle in place; a part outside the picture is passed over."""
    left, top, right, bottom = box
    region = picture[max(0, top) : bottom, max(0, left) : right]
    if region.size:
        region[...] = _covered(region, cover, cells)


def cover_polygon(picture: Picture, corners: npt.NDArray[np.int32], cover: Cover, cells: int) -> None:
    """Cover a polygon in place, its edge included."""
    height, width = picture.shape[:2]
    stencil = np.zeros((height, width), np.uint8)
    cv2.fillPoly(stencil, [corners], 255)
    left, top, wide, high = cv2.boundingRect(corners)
    view = (slice(max(0, top), top + high), slice(max(0, left), left + wide))
    region, inside = picture[view], stencil[view] > 0
    if region.size:
        region[inside] = _covered(region, cover, cells)[inside]


def _covered(region: Picture, cover: Cover, cells: int) -> Picture:
    if cover == "black":
        return np.zeros_like(region)
    height, width = region.shape[:2]
    longer = max(height, width)
    count = max(1, min(cells, longer // MIN_CELL_PX))
    small = (max(1, round(width * count / longer)), max(1, round(height * count / longer)))
    averages = cv2.resize(region, small, interpolation=cv2.INTER_AREA)
    return cv2.resize(averages, (width, height), interpolation=cv2.INTER_LINEAR)
