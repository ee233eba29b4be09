"""Read a video file, every frame a part of its own, and go on behind the last one after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from edge_agent.errors import SourceError
from edge_agent.sources.base import Frame, clean_part_id
from fleet_contracts.base import utc_now


class VideoReader:
    """Give the frames of a video file in order; ended after the last."""

    def __init__(self, path: Path, seen: Iterable[str]) -> None:
        self._path = path
        self._stem = clean_part_id(path.stem)[:100]
        self._next = 1 + max((int(token) for token in seen if token.isdigit()), default=-1)
        self._capture: cv2.VideoCapture | None = None
        self._ended = False

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or None after the last.

        Raises:
            SourceError: no such file, or no codec reads it.
        """
        if self._capture is None:
            self._capture = self._open()
        good, image = self._capture.read()
        if not good or image is None:
            self._ended = True
            return None
        index, self._next = self._next, self._next + 1
        return Frame(
            image=image, captured_at=utc_now(), part_id=f"{self._stem}-{index:06d}", token=str(index)
        )

    def is_ended(self) -> bool:
        """Tell whether the last frame was read."""
        return self._ended

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise SourceError(
                expected="a video file OpenCV reads",
                got="nothing it can open",
                where=str(self._path),
                now="Check the path and the codec.",
            )
        # Frames are grabbed one by one, because seeking lands on key frames with some codecs.
        for _ in range(self._next):
            if not capture.grab():
                break
        return capture
