"""Help the tests of live sources: jobs, readers, real servers, and a look at processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.base import Frame, FrameReader
from edge_agent.sources.grab import SourceJob
from edge_agent.sources.live import LiveOptions, LiveReader
from tests.helpers import free_port, missing, program, wait_until

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")


def gst() -> None:
    """Skip the test where GStreamer is missing."""
    remedy = "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
    program("gst-launch-1.0", remedy)
    for element in ("videotestsrc", "gdppay"):
        if subprocess.run(["gst-inspect-1.0", "--exists", element], timeout=30).returncode:
            missing(f"GStreamer's {element}", remedy)


def snow(width: int = 64, height: int = 48, fps: int = 30, more: str = "is-live=true") -> str:
    """Write a pipeline that draws another picture each frame."""
    return f"videotestsrc pattern=snow {more} ! video/x-raw,width={width},height={height},framerate={fps}/1"


def job_of(kind: str, target: str, **more: object) -> SourceJob:
    """Say what to open, with short limits."""
    return SourceJob(kind, target, **{"slots": 12, "stall_s": 1.0, "open_s": 10.0, **more})  # type: ignore[arg-type]


class LiveKit:
    """Be a live reader with its counters and events."""

    def __init__(self, job: SourceJob, **options: object) -> None:
        self.counters, self.events = Counters(), Events()
        self.reader = LiveReader(job, LiveOptions("cam0", **options), self.counters, self.events)  # type: ignore[arg-type]

    def frame(self, seconds: float = 10.0) -> Frame:
        """Return the next frame, opening the source again as the capture thread would."""
        return next_frame(self.reader, seconds)


@contextmanager
def live(
    kind: str, target: str, *, options: dict[str, object] | None = None, **more: object
) -> Iterator[LiveKit]:
    """Open a live reader for the length of a test."""
    kit = LiveKit(job_of(kind, target, **more), **(options or {}))
    try:
        yield kit
    finally:
        kit.reader.close()


def next_frame(reader: FrameReader, seconds: float = 10.0) -> Frame:
    """Return the next frame, asking again after an error."""
    found: list[Frame] = []

    def look() -> bool:
        try:
            frame = reader.read(0.05)
        except SourceError:
            time.sleep(0.05)
            return False
        found.extend([] if frame is None else [frame])
        return bool(found)

    wait_until(look, seconds, "a frame")
    return found[0]


def read_on(reader: FrameReader, seconds: float = 10.0) -> None:
    """Read until an error comes, which is raised; fail when none does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reader.read(0.1)
    pytest.fail(f"no error within {seconds} s")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int) -> list[int]:
    """Return the processes a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class RtspServer:
    """Be a real RTSP server that can be stopped, held and let go on."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self.port = free_port()
        self._words = [user, password] if user else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the stream's address, without a password."""
        return f"rtsp://127.0.0.1:{self.port}/line"

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [SYSTEM_PYTHON, str(SERVER), str(self.port), "160", "120", "25", *self._words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"

    def signal(self, number: int) -> None:
        """Hold it (SIGSTOP) or let it go on (SIGCONT)."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


def has_rtsp_server() -> bool:
    """Tell whether the system's Python has GStreamer's RTSP server."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def rtsp_server(user: str = "", password: str = "") -> Iterator[RtspServer]:
    """Run a server for the length of a test, or skip."""
    if not has_rtsp_server():
        missing(
            "GStreamer's RTSP server",
            "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good",
        )
    server = RtspServer(user, password)
    server.start()
    try:
        yield server
    finally:
        server.signal(signal.SIGCONT)
        server.stop()
