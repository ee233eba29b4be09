"""Decide whether uploaded bytes are the image that was promised. No I/O: bytes in, facts or a refusal out.

A presigned PUT fixes neither size nor content, so nothing about an upload is believed before this.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np

from fleet_contracts import sha256_of
from fleet_contracts.messages import MAX_IMAGE_BYTES
from fleet_contracts.samples import HardExample
from flows.looks import look_of

MAX_PIXELS = 64 * 1024 * 1024
MEDIA_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


@dataclass(frozen=True, slots=True)
class Promise:
    """Hold what is known of an upload before it is looked at; None where nothing was promised."""

    task_id: str
    sample_id: str
    device_id: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Hold what the bytes turned out to be."""

    width: int
    height: int
    size_bytes: int
    media_type: str
    look: str


class Refusal(Exception):
    """Carry why an upload is not taken.

    Args:
        reason: for people.
        torn: the bytes are not those of the sample; the box still has the right ones and may try again.
    """

    def __init__(self, reason: str, *, torn: bool = False) -> None:
        self.reason = reason
        self.torn = torn
        super().__init__(reason)


def check_size(promise: Promise, size: int) -> None:
    """Check an object's size before it is read.

    Raises:
        Refusal: empty, larger than any image may be, or not the size that was promised.
    """
    if size < 1 or size > MAX_IMAGE_BYTES:
        raise Refusal(f"expected 1 to {MAX_IMAGE_BYTES} bytes, got {size}", torn=True)
    if promise.size_bytes is not None and size != promise.size_bytes:
        raise Refusal(f"expected the promised {promise.size_bytes} bytes, got {size}", torn=True)


def check_image(promise: Promise, content: bytes) -> ImageFacts:
    """Check that bytes are the promised sample and an image.

    Raises:
        Refusal: another hash (torn), or bytes that no decoder reads, or too many pixels.
    """
    got = sha256_of(content)
    if got != promise.sample_id:
        raise Refusal(f"expected SHA-256 {promise.sample_id}, got {got}", torn=True)
    media_type = next((kind for magic, kind in MEDIA_TYPES.items() if content.startswith(magic)), None)
    if media_type is None:
        raise Refusal(f"expected a JPEG or PNG image, got bytes that begin with {content[:4].hex()}")
    _check_header(content)
    image = _decode(content)
    height, width = image.shape[:2]
    return ImageFacts(width, height, len(content), media_type, look_of(image))


def check_example(promise: Promise, facts: ImageFacts, example: HardExample) -> None:
    """Check that a box's description belongs to this task, sample, device and image.

    Raises:
        Refusal: it speaks of something else.
    """
    if example.task_id != promise.task_id or example.sample_id != promise.sample_id:
        raise Refusal(
            f"expected a description of {promise.task_id}/{promise.sample_id},"
            f" got {example.task_id}/{example.sample_id}"
        )
    strangers = {item.device_id for item in example.sightings} - {promise.device_id}
    if promise.device_id is not None and strangers:
        raise Refusal(f"expected sightings by {promise.device_id} alone, got {sorted(strangers)}")
    if (example.image.width, example.image.height) != (facts.width, facts.height):
        raise Refusal(
            f"expected an image of {example.image.width} x {example.image.height},"
            f" got {facts.width} x {facts.height}"
        )


def _check_header(content: bytes) -> None:
    # Before decoding: a few kilobytes may unfold into gigabytes of pixels.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(f"expected an image, got a header that does not read: {error}") from error
    if width * height > MAX_PIXELS:
        raise Refusal(f"expected at most {MAX_PIXELS} pixels, got {width} x {height}")


def _decode(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise Refusal(f"expected an image, got bytes cv2 refuses: {error.err}") from error
    if image is None:
        raise Refusal("expected an image, got bytes that do not decode")
    return np.asarray(image, dtype=np.uint8)
