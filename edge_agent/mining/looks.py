"""Tell whether a frame says nothing that a recently kept one did not say: a near duplicate.

A frame dropped by mistake is gone for good, one kept in vain costs a label, so a duplicate must agree with
one kept frame in everything there is to compare: the same classes at the same places, and the same look.
Feature vector and perceptual hash only choose which kept frames a small colour thumb is compared with, and
where the thumbs agree a fine one decides: of 221 boards of DeepPCB (640 px) that stand still, a new mark of
about 20 by 12 pixels was lost on 35 by the small thumb alone, on one by both. Measured on the synthetic
line: two frames of one part that stands still differ by at most 8 grey levels in
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
FINE = 64
"""Side of the fine thumb in cells; one is made of frames that are kept or look like a kept one."""
_FINE_SAMPLES = 384
FINE_BYTES = _FINE_SAMPLES * _FINE_SAMPLES
"""Room for the bytes a fine thumb is made of."""
_FEW = slice(None, None, 97)
"""Cells of a thumb by which most rows are told apart, before all cells of the others are compared."""
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
        image: the frame itself, for the fine thumb; nobody keeps it.
    """

    bits: Mask
    thumb: Thumb
    features: Floats | None
    image: Image


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
        self._few: Thumb = np.ascontiguousarray(self._thumbs[:, _FEW])
        self._fine: Thumb = np.ones((limits.remembered, FINE * FINE), np.int16)
        self._room = np.ones(FINE_BYTES, np.uint8)
        self._features: Floats = np.zeros((limits.remembered, 0), np.float32)
        self._kept: list[_Kept | None] = [None] * limits.remembered
        self._next = 0

    def __len__(self) -> int:
        return sum(one is not None for one in self._kept)

    def is_duplicate(self, seen: SeenFrame, look: Look) -> bool:
        """Tell whether one frame kept within the time agrees in everything."""
        since = self._clock() - self._limits.seconds
        fine: Thumb | None = None
        for row in self._alike(look):
            kept = self._kept[row]
            if kept is None or kept.at < since or not self._agree(self._thumbs[row], look.thumb):
                continue
            if not same_findings(kept.found, seen.detections, self._limits.low):
                continue
            fine = fine_of(look.image, self._room) if fine is None else fine
            if self._agree(self._fine[row], fine):
                return True
        return False

    def add(self, seen: SeenFrame, look: Look) -> None:
        """Remember a frame that is kept; the oldest one makes room."""
        row, features = self._next, look.features
        if features is not None and features.size != self._features.shape[1]:
            # Another model: its vectors say nothing about the last one's.
            self._features = np.full((self._limits.remembered, features.size), 0.0, np.float32)
        self._bits[row], self._thumbs[row] = look.bits, look.thumb
        self._few[row], self._fine[row] = look.thumb[_FEW], fine_of(look.image, self._room)
        self._features[row] = 0.0 if features is None else features
        self._kept[row] = _Kept(self._clock(), seen.detections)
        self._next = (row + 1) % self._limits.remembered

    def _alike(self, look: Look) -> list[int]:
        """Return the rows that may look alike: near by features where there are any, or by hash."""
        # A few cells first: where all vectors are alike, whole thumbs row by row would take a millisecond.
        rows = np.flatnonzero(np.abs(self._few - look.thumb[_FEW]).max(axis=1) <= self._limits.grey)
        near = np.count_nonzero(self._bits[rows] != look.bits, axis=1) <= self._limits.bits
        if look.features is not None and look.features.size == self._features.shape[1]:
            near |= 1.0 - self._features[rows] @ look.features <= self._limits.features
        alike: list[int] = rows[near].tolist()
        return alike

    def _agree(self, one: Thumb, other: Thumb) -> bool:
        return int(np.abs(one - other).max()) <= self._limits.grey


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
    return Look((grey[:, 1:] > grey[:, :-1]).reshape(64), cells.reshape(-1), _unit(features), image)


def fine_of(image: Image, room: npt.NDArray[np.uint8]) -> Thumb:
    """Return the fine thumb, (FINE * FINE,) cells around their mean; about 0.2 ms for a frame of any size.

    Args:
        image: uint8 BGR.
        room: (FINE_BYTES,), overwritten, so that nothing large is allocated for a frame (law 3).
    """
    height, width = image.shape[:2]
    rows = image[:: -(-height // _FINE_SAMPLES)]
    # One byte beyond whole pixels, so that blue, green and red take turns: a third of the bytes, all colours.
    some = rows.reshape(len(rows), width * 3)[:, :: 3 * -(-width // _FINE_SAMPLES) + 1]
    few = room[: some.size].reshape(some.shape)
    np.copyto(few, some)
    small = cv2.resize(few, (FINE, FINE), interpolation=cv2.INTER_AREA)
    cells: Thumb = small.astype(np.int16)
    cells -= np.int16(round(cv2.mean(small)[0]))
    return cells.reshape(-1)


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
