"""Tell a picture of nothing from a picture without defects. Pure: values in, words out.

A grid of samples stands for the picture, some 3,000 of 1080p's two million pixels: a lens cap darkens them
all, and the noise of a real sensor changes some of them in every frame.

    >>> dark = look(np.zeros((8, 8, 3), np.uint8))
    >>> is_black(dark, FaultLimits())
    True
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from edge_agent.sources.base import Image

BLACK, FROZEN, SIZE, MISSED = "black", "frozen", "size", "trigger-missed"
SAMPLES = (48, 64)
"""Rows and columns of the grid."""
_EOI, _SOS, _FILL = b"\xff\xd9", 0xDA, 0xFF
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
"""JPEG markers that have no length."""


@dataclass(frozen=True, slots=True)
class FaultLimits:
    """Say from where on a picture is a fault; `width` and `height` 0 = any size, `frozen_s` 0 = never."""

    black: bool = True
    black_mean: float = 6.0
    black_max: int = 24
    frozen_s: float = 10.0
    frozen_frames: int = 20
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Hold what was seen of a picture: brightness of its samples, their checksum, width and height."""

    mean: float
    peak: int
    checksum: int
    size: tuple[int, int]


def look(image: Image) -> Look:
    """Sample a picture."""
    height, width = image.shape[:2]
    down, right = max(1, height // SAMPLES[0]), max(1, width // SAMPLES[1])
    samples = np.ascontiguousarray(image[down // 2 :: down, right // 2 :: right])
    return Look(float(samples.mean()), int(samples.max()), zlib.crc32(samples.data), (width, height))


def is_black(seen: Look, limits: FaultLimits) -> bool:
    """Tell whether a picture shows nothing at all."""
    return limits.black and seen.mean < limits.black_mean and seen.peak < limits.black_max


def is_wrong_size(seen: Look, limits: FaultLimits) -> bool:
    """Tell whether a picture has another size than the one that was fixed."""
    return bool(limits.width) and seen.size != (limits.width, limits.height)


class FrozenWatch:
    """Notice that the same picture comes again and again."""

    def __init__(self, limits: FaultLimits) -> None:
        self._limits = limits
        self._checksum = -1
        self._since = 0.0
        self._frames = 0

    def is_frozen(self, seen: Look, moment: float) -> bool:
        """Take in a picture and the moment of its capture in seconds; tell whether it has stood too long."""
        if self._limits.frozen_s <= 0:
            return False
        if seen.checksum != self._checksum:
            self._checksum, self._since, self._frames = seen.checksum, moment, 1
            return False
        self._frames += 1
        stood_s = moment - self._since
        return self._frames >= self._limits.frozen_frames and stood_s >= self._limits.frozen_s


def fault_of(seen: Look, moment: float, limits: FaultLimits, watch: FrozenWatch) -> str:
    """Return the fault of a picture, "" for none."""
    frozen = watch.is_frozen(seen, moment)
    if is_wrong_size(seen, limits):
        return SIZE
    if is_black(seen, limits):
        return BLACK
    return FROZEN if frozen else ""


def is_whole_jpeg(content: bytes) -> bool:
    r"""Tell whether a JPEG file has its end marker behind the picture's data; a thumbnail's does not count.

    >>> is_whole_jpeg(b"\xff\xd8\xff\xda\x00\x02data\xff\xd9")
    True
    >>> is_whole_jpeg(b"\xff\xd8\xff\xda\x00\x02data")
    False
    """
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == _SOS:
            # Within the data every 0xff is followed by zero, so that this is the marker itself.
            return content.find(_EOI, at) >= 0
        at += _step(marker, content[at + 2 : at + 4])
    return False


def _step(marker: int, length: bytes) -> int:
    """Return how far it is to the next JPEG marker."""
    if marker == _FILL:
        return 1
    return 2 if marker in _ALONE else 2 + int.from_bytes(length, "big")
