"""Read a GStreamer pipeline through `gst-launch-1.0`; used in the child process only.

pip's OpenCV has no GStreamer. A sink is appended that writes packets into a pipe, which tell the frames' size
and every change of it. The program's arguments can be seen by every user of the box.
"""

from __future__ import annotations

import fcntl
import io
import os
import shlex
import shutil
import subprocess
from typing import Final

import cv2
import numpy as np

from edge_agent.errors import ConfigError, SourceError
from edge_agent.sources import gdp
from edge_agent.sources.base import Image
from edge_agent.sources.grab import SourceJob, mismatch
from edge_agent.sources.jetson import pipeline_of, with_tail
from edge_agent.sources.mortal import die_with_parent

PROGRAM = "gst-launch-1.0"
PACKAGES = "gstreamer1.0-tools, gstreamer1.0-plugins-good and gstreamer1.0-plugins-bad"
PIPE_BYTES: Final = 1024 * 1024
F_SETPIPE_SZ: Final = 1031
"""`fcntl.F_SETPIPE_SZ`, which Python names only where it was built with it."""


class GstGrabber:
    """Be the driver of `gst:` and `jetson:`."""

    def __init__(self, job: SourceJob) -> None:
        self._job = job
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: FrameStream | None = None

    def open(self) -> tuple[str, ...]:
        """Start the pipeline and read the header it sends.

        Raises:
            ConfigError: the program is missing, or the pipeline cannot be written as arguments.
            SourceError: the pipeline ended before its first frame; its own words are in the log.
        """
        program = shutil.which(PROGRAM)
        if program is None:
            raise ConfigError(
                expected=f"the program {PROGRAM}",
                got="none",
                where="camera.source",
                now=f"Install {PACKAGES}.",
            )
        near, far = os.pipe()
        try:
            fcntl.fcntl(near, F_SETPIPE_SZ, PIPE_BYTES)
            self._process = subprocess.Popen(
                [program, "-q", *launch_arguments(self._job, far)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(far,),
                preexec_fn=die_with_parent,  # noqa: PLW1509 - the child that calls this has one thread
            )
        finally:
            os.close(far)
            self._reader = FrameStream(near)
        if not self._reader.next_frame():
            raise SourceError(
                expected="frames from the pipeline",
                got="its end",
                where=self._job.target,
                now="Run it with gst-launch-1.0 by hand; the agent tries again by itself.",
            )
        self._has_first = True
        return self._otherwise((self._reader.plane.width, self._reader.plane.height))

    _has_first = False
    """`open` has waited for the first frame already."""

    def grab(self) -> bool:
        """Wait for the head of the next frame."""
        assert self._reader is not None
        if self._has_first:
            self._has_first = False
            return True
        return self._reader.next_frame()

    def retrieve(self, into: Image | None) -> Image | None:
        """Read and convert the frame."""
        assert self._reader is not None
        return self._reader.picture(into)

    def skip(self) -> None:
        """Read the frame and let it go: what is not read blocks the pipeline."""
        assert self._reader is not None
        self._reader.planes()

    def close(self) -> None:
        """End the pipeline."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.close()

    def _otherwise(self, size: tuple[int, int]) -> tuple[str, ...]:
        asked = (self._job.width, self._job.height)
        return (mismatch("size", asked, size),) if all(asked) and asked != size else ()


class FrameStream:
    """Read frames from a file descriptor, which it owns."""

    def __init__(self, handle: int) -> None:
        self._file = io.FileIO(handle, "r")
        self._head = bytearray(gdp.HEADER_BYTES)
        self._data = np.empty(0, np.uint8)
        self.plane = gdp.Plane(0, 0)

    def next_frame(self) -> bool:
        """Wait for the head of a frame, taking in what comes before it; False at the end.

        Raises:
            SourceError: what comes are no packets, or no frames we read.
        """
        while self._fill(memoryview(self._head)):
            kind, length = gdp.parse_head(self._head)
            if kind == gdp.BUFFER:
                self._expect(length)
                return True
            rest = bytearray(length)
            if not self._fill(memoryview(rest)):
                return False
            if kind == gdp.CAPS:
                self.plane = gdp.parse_caps(rest)
        return False

    def planes(self) -> Image | None:
        """Read the frame's bytes; None when the stream ends within it."""
        return self._data if self._fill(self._data.data) else None

    def picture(self, into: Image | None) -> Image | None:
        """Read the frame as BGR."""
        data = self.planes()
        if data is None:
            return None
        shape = self.plane.shape
        if into is None or into.shape != shape:
            into = np.empty(shape, np.uint8)
        return cv2.cvtColor(self.plane.packed(data), cv2.COLOR_YUV2BGR_I420, into)

    def close(self) -> None:
        """Close the pipe."""
        self._file.close()

    def _expect(self, length: int) -> None:
        if length != self.plane.frame_bytes:
            raise SourceError(
                expected=f"{self.plane.frame_bytes} bytes of {self.plane.width}x{self.plane.height}",
                got=f"{length} bytes",
                where="the pipeline",
            )
        if len(self._data) != length:
            self._data = np.empty(length, np.uint8)

    def _fill(self, view: memoryview) -> bool:
        """Read until the view is full; False when the stream ends before."""
        filled = 0
        while filled < len(view):
            count = self._file.readinto(view[filled:])
            if not count:
                return False
            filled += count
        return True


def launch_arguments(job: SourceJob, handle: int) -> list[str]:
    """Return the words of a pipeline that writes frames to the file descriptor `handle`.

    Raises:
        ConfigError: quotes that do not match, or an unknown ready pipeline.
    """
    pipeline = pipeline_of(job.target) if job.kind == "jetson" else job.target
    try:
        return shlex.split(with_tail(pipeline, handle, leaky=not job.waits))
    except ValueError as error:
        raise ConfigError(
            expected="a pipeline with matching quotes",
            got=str(error),
            where="camera.source",
            now="Correct it.",
        ) from error
