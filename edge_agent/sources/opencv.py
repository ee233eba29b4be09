"""Read a V4L2 camera or a network stream through OpenCV; used in the child process only."""

from __future__ import annotations

import math
import os

import cv2

from edge_agent.errors import ConfigError, SourceError
from edge_agent.sources.base import Image
from edge_agent.sources.grab import SourceJob, mismatch

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""The only way to tell FFmpeg through OpenCV how to carry RTSP."""
CLOSE_ENOUGH = 0.02


class OpenCvGrabber:
    """Be the driver of `v4l2:` and of any URL FFmpeg reads."""

    def __init__(self, job: SourceJob) -> None:
        self._job = job
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> tuple[str, ...]:
        """Open the device or stream.

        Raises:
            SourceError: nothing there that OpenCV opens.
            ConfigError: the pixel format is not one of V4L2.
        """
        settings = v4l2_settings(self._job) if self._job.kind == "v4l2" else ()
        capture = self._v4l2() if self._job.kind == "v4l2" else self._stream()
        if not capture.isOpened():
            raise SourceError(
                expected="a camera or stream OpenCV opens",
                got="nothing",
                where=self._job.target,
                now="Check the address, the cable and the password; the agent tries again by itself.",
            )
        self._capture = capture
        return apply_settings(capture, settings)

    def grab(self) -> bool:
        """Wait for the next frame."""
        return self._capture is not None and self._capture.grab()

    def retrieve(self, into: Image | None) -> Image | None:
        """Decode the grabbed frame."""
        assert self._capture is not None
        good, image = self._capture.retrieve() if into is None else self._capture.retrieve(into)
        return image if good else None

    def skip(self) -> None:
        """Do nothing: what is not retrieved is not converted."""

    def close(self) -> None:
        """Let go of the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _v4l2(self) -> cv2.VideoCapture:
        target = self._job.target
        return cv2.VideoCapture(int(target) if target.isdigit() else target, cv2.CAP_V4L2)

    def _stream(self) -> cv2.VideoCapture:
        os.environ[FFMPEG_OPTIONS] = f"rtsp_transport;{self._job.rtsp_transport}"
        return cv2.VideoCapture(self._job.target, cv2.CAP_FFMPEG, stream_parameters(self._job))


def stream_parameters(job: SourceJob) -> list[int]:
    """Return what must be said at opening: OpenCV honours its timeouts only then, with the backend named."""
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        math.ceil(job.open_s * 1000),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        math.ceil(job.stall_s * 1000),
        cv2.CAP_PROP_N_THREADS,
        job.decode_threads,
    ]


def v4l2_settings(job: SourceJob) -> tuple[tuple[str, int, float], ...]:
    """Return name, property and value of what is asked of a V4L2 camera, in the order drivers want it.

    The pixel format decides which sizes there are, and the size which rates.

    Raises:
        ConfigError: a pixel format that is not four letters.
    """
    code = job.pixel_format
    if code and len(code) != 4:
        raise ConfigError(
            expected="four letters such as MJPG",
            got=repr(code),
            where="camera.pixel_format",
            now="Correct it.",
        )
    asked = (
        ("pixel_format", cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*code)) if code else 0.0),
        ("width", cv2.CAP_PROP_FRAME_WIDTH, float(job.width)),
        ("height", cv2.CAP_PROP_FRAME_HEIGHT, float(job.height)),
        ("fps", cv2.CAP_PROP_FPS, job.fps),
        # The driver's own queue holds four old frames otherwise; not every driver can.
        ("buffers", cv2.CAP_PROP_BUFFERSIZE, 2.0),
    )
    return tuple(item for item in asked if item[2])


def apply_settings(
    capture: cv2.VideoCapture, settings: tuple[tuple[str, int, float], ...]
) -> tuple[str, ...]:
    """Ask for every value, then read all back; return what came out otherwise."""
    for _, number, value in settings:
        capture.set(number, value)
    found = [(name, value, float(capture.get(number))) for name, number, value in settings]
    return tuple(
        mismatch(name, _words(name, value), _words(name, got))
        for name, value, got in found
        if name != "buffers" and abs(got - value) > CLOSE_ENOUGH * abs(value)
    )


def _words(name: str, value: float) -> str:
    """Write a value as a person would: a fourcc by its letters."""
    if name != "pixel_format":
        return f"{value:g}"
    code = int(value) & 0xFFFFFFFF
    return code.to_bytes(4, "little").decode("ascii", "replace")
