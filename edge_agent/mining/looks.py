"""Tell whether a frame says nothing that a recently kept one did not say: a near duplicate.

A frame dropped by mistake is gone for good, one kept in vain costs a label, so a duplicate must agree with
one kept frame in everything there is to compare: the same classes at the same places, and the same look.
Feature vector and perceptual hash only choose which kept frames a small colour thumb is compared with.
Measured on the synthetic line: two frames of one part that stands still differ by at most 8 grey levels in
any cell, two parts by 54 or more, while the features of a small model differ less between two parts (cosine
distance 0.0002) than between two frames of one (0.0005 and more), and 4 to 6 bits of the hash in both cases.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from detection.detections import Detections, Floats, Image, Mask
from detection.metrics.matching import box_iou
from edge_agent.mining.doubt import strongest
from edge_agent.mining.seen import SeenFrame

THUMB = 24
"""Side of the thumb in cells."""
_SAMPLES = 96
"""Pixels looked at along each side, at most: all of a 1080p frame would take a millisecond."""
_SAME_BOX = 0.5
"""Overlap from which on two boxes of one class are taken for the same."""
Thumb = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class LookLimits:
    """Say how alike two frames must be to be duplicates, and for how long a kept frame counts.

    Attributes:
        features: largest cosine distance.
        bits: largest number of different bits of the 64-bit hash.
        grey: largest difference of one cell of the thumb in levels of 255, the lighting evened out.
        seconds: after which a kept frame is not recent any more.
        low: detections below it are nothing.
        remembered: kept frames that are compared with, at most.
    """

    features: float = 0.02
    bits: int = 10
    grey: int = 10
    seconds: float = 3600.0
    low: float = 0.15
    remembered: int = 512


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Hold how a frame looks.

    Attributes:
        bits: (64,) the perceptual hash.
        thumb: (THUMB * THUMB * 3,) cells of BGR, each channel around its mean.
        features: (c,) of length 1, None without a usable feature vector.
    """

    bits: Mask
    thumb: Thumb
    features: Floats | None


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    found: Detections


class RecentLooks:
    """Remember the frames that were kept of late, in bounded memory; for the loop's thread alone."""

    def __init__(self, limits: LookLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        # Written at the start, not just reserved, so that the process does not grow while it runs.
        self._bits: Mask = np.ones((limits.remembered, 64), np.bool_)
        self._thumbs: Thumb = np.ones((limits.remembered, THUMB * THUMB * 3), np.int16)
        self._features: Floats = np.zeros((limits.remembered, 0), np.float32)
        self._kept: list[_Kept | None] = [None] * limits.remembered
        self._next = 0

    def __len__(self) -> int:
        return sum(one is not None for one in self._kept)

    def is_duplicate(self, seen: SeenFrame, look: Look) -> bool:
        """Tell whether one frame kept within the time agrees in everything."""
        since = self._clock() - self._limits.seconds
        for row in self._alike(look):
            kept = self._kept[row]
            if kept is None or kept.at < since or not self._thumbs_agree(row, look):
                continue
            if same_findings(kept.found, seen.detections, self._limits.low):
                return True
        return False

    def add(self, seen: SeenFrame, look: Look) -> None:
        """Remember a frame that is kept; the oldest one makes room."""
        row, features = self._next, look.features
        if features is not None and features.size != self._features.shape[1]:
            # Another model: its vectors say nothing about the last one's.
            self._features = np.full((self._limits.remembered, features.size), 0.0, np.float32)
        self._bits[row], self._thumbs[row] = look.bits, look.thumb
        self._features[row] = 0.0 if features is None else features
        self._kept[row] = _Kept(self._clock(), seen.detections)
        self._next = (row + 1) % self._limits.remembered

    def _alike(self, look: Look) -> list[int]:
        """Return the rows that may look alike: near by features where there are any, or by hash."""
        near = np.count_nonzero(self._bits != look.bits, axis=1) <= self._limits.bits
        if look.features is not None and look.features.size == self._features.shape[1]:
            near |= 1.0 - self._features @ look.features <= self._limits.features
        rows: list[int] = np.flatnonzero(near).tolist()
        return rows

    def _thumbs_agree(self, row: int, look: Look) -> bool:
        return int(np.abs(self._thumbs[row] - look.thumb).max()) <= self._limits.grey


def look_of(image: Image, features: Floats | None) -> Look:
    """Return how a frame looks; about 0.1 ms for a frame of any size.

    Args:
        image: uint8 BGR.
        features: of the model; a vector of length 0 or with numbers that are not finite is passed over.
    """
    height, width = image.shape[:2]
    # Every n-th pixel, so that the cost does not grow with the camera.
    few = np.ascontiguousarray(image[:: -(-height // _SAMPLES), :: -(-width // _SAMPLES)])
    small = cv2.resize(few, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    grey = cv2.resize(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    cells = small.astype(np.int16)
    # Lamps flicker and exposure drifts: what counts is how a cell differs from the frame's mean.
    cells -= np.rint(cv2.mean(small)[:3]).astype(np.int16)
    return Look((grey[:, 1:] > grey[:, :-1]).reshape(64), cells.reshape(-1), _unit(features))


def same_findings(one: Detections, other: Detections, low: float) -> bool:
    """Tell whether both show the same classes at the same places; two frames without findings do."""
    rows, others = strongest(one, low), strongest(other, low)
    if rows.size != others.size:
        return False
    if rows.size == 0:
        return True
    if not np.array_equal(np.sort(one.class_id[rows]), np.sort(other.class_id[others])):
        return False
    same_class = one.class_id[rows][:, None] == other.class_id[others][None, :]
    paired = same_class & (box_iou(one.xyxy[rows], other.xyxy[others]) >= _SAME_BOX)
    return bool(paired.any(axis=1).all() and paired.any(axis=0).all())


def _unit(features: Floats | None) -> Floats | None:
    if features is None or features.size == 0:
        return None
    length = float(np.sqrt(np.dot(features, features)))
    if not np.isfinite(length) or length <= 0.0:
        return None
    unit: Floats = features / np.float32(length)
    return unit
