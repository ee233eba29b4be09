"""Compute how an image looks as 256 bits, so that near-duplicates are found without reading images again.

A shift by a few pixels, noise, another exposure or another JPEG quality change a handful of the bits;
unrelated images differ in about 128.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 16
"""The hash has SIDE * SIDE bits."""
_WORK_SIDE = 256


def look_of(image: NDArray[np.uint8]) -> str:
    """Return the perceptual hash of a decoded image (grey or BGR) in hexadecimal."""
    from imagehash import phash
    from PIL import Image

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    small: Any = cv2.resize(grey, (_WORK_SIDE, _WORK_SIDE), interpolation=cv2.INTER_AREA)
    return str(phash(Image.fromarray(small), hash_size=SIDE))


def bits_of(looks: list[str]) -> NDArray[np.uint8]:
    """Unpack hashes into rows of 0 and 1, shape (n, SIDE * SIDE)."""
    rows = [np.frombuffer(bytes.fromhex(look), dtype=np.uint8) for look in looks]
    return np.unpackbits(np.stack(rows), axis=1) if rows else np.zeros((0, SIDE * SIDE), np.uint8)
