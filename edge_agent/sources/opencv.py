"""Read a camera, stream or GStreamer pipeline through OpenCV, and open it again when it is lost."""

from __future__ import annotations

import cv2

from edge_agent.errors import SourceError
from edge_agent.sources.base import Frame, clean_part_id
from fleet_contracts.base import utc_now

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 3000


class OpenCvReader:
    """Give frames of a live source, every frame a part of its own.

    `source` is a device number, a URL, or a GStreamer pipeline (recognised by its `!`).
    """

    def __init__(self, source: str, camera: str, *, follow: bool) -> None:
        self._source = source
        self._camera = clean_part_id(camera)[:64]
        self._follow = follow
        self._capture: cv2.VideoCapture | None = None
        self._ended = False

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame.

        Raises:
            SourceError: the source could not be opened or was lost; the next call opens it again.
        """
        if self._capture is None:
            self._capture = self._open()
        good, image = self._capture.read()
        if not good or image is None:
            self.close()
            self._ended = not self._follow
            raise SourceError(expected="a frame", got="end of stream", where=self._hidden())
        now = utc_now()
        part_id = f"{self._camera}-{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}"
        return Frame(image=image, captured_at=now, part_id=part_id)

    def is_ended(self) -> bool:
        """Tell whether the stream was lost and is not to be opened again."""
        return self._ended

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _open(self) -> cv2.VideoCapture:
        if self._source.isdigit():
            capture = cv2.VideoCapture(int(self._source))
        elif "!" in self._source:
            capture = cv2.VideoCapture(self._source, cv2.CAP_GSTREAMER)
        else:
            # OpenCV honours its timeouts only when the backend is named at opening.
            limits = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                OPEN_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                READ_TIMEOUT_MS,
            ]
            capture = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            self._ended = not self._follow
            raise SourceError(
                expected="a camera or stream OpenCV opens",
                got="nothing",
                where=self._hidden(),
                now="Check the address; the agent tries again by itself.",
            )
        return capture

    def _hidden(self) -> str:
        """Return the source without the user name and password a URL may carry."""
        scheme, separator, rest = self._source.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}" if separator else self._source
