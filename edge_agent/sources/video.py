"""Read a video file, every frame a part of its own, and go on behind the last one after a restart."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import cv2

from edge_agent.errors import SourceError
from edge_agent.sources.base import Frame, Image, clean_part_id
from edge_agent.sources.pool import FramePool
from fleet_contracts.base import utc_now

BUFFERS = 48
LOOK_S = 0.005


class VideoReader:
    """Give the frames of a video file in order; ended after the last.

    Frames are decoded into `buffers` pictures that are used again; while all are in use, the file waits.
    """

    def __init__(self, path: Path, seen: Iterable[str], buffers: int = BUFFERS) -> None:
        self._path = path
        self._stem = clean_part_id(path.stem)[:100]
        self._next = 1 + max((int(token) for token in seen if token.isdigit()), default=-1)
        self._buffers = buffers
        self._capture: cv2.VideoCapture | None = None
        self._pool = FramePool((0, 0, 3), 1)
        self._ended = False

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or None after the last, or when no buffer came free in time.

        Raises:
            SourceError: no such file, or no codec reads it.
        """
        if self._capture is None:
            self._capture = self._open()
        buffer = self._buffer(wait_s)
        if buffer is None:
            return None
        good, image = self._capture.read(buffer)
        if not good or image is None:
            self._ended = True
            return None
        index, self._next = self._next, self._next + 1
        return Frame(
            image=buffer if _is_same(image, buffer) else image,
            captured_at=utc_now(),
            part_id=f"{self._stem}-{index:06d}",
            token=str(index),
            last_in_part=True,
        )

    def is_ended(self) -> bool:
        """Tell whether the last frame was read."""
        return self._ended

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _buffer(self, wait_s: float) -> Image | None:
        deadline = time.monotonic() + wait_s
        buffer = self._pool.take()
        while buffer is None and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            buffer = self._pool.take()
        return buffer

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SourceError(
                expected="a video file OpenCV reads",
                got="nothing it can open",
                where=str(self._path),
                now="Check the path and the codec.",
            )
        width, height = (int(capture.get(n)) for n in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self._pool = FramePool((height, width, 3), self._buffers)
        # Frames are grabbed one by one, because seeking lands on key frames with some codecs.
        for _ in range(self._next):
            if not capture.grab():
                break
        return capture


def _is_same(image: Image, buffer: Image) -> bool:
    """Tell whether OpenCV decoded into the buffer; when the size does not fit it makes its own image."""
    return bool(image.__array_interface__["data"][0] == buffer.__array_interface__["data"][0])
