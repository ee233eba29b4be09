"""Read a live source through a child process, watch that it goes on, and start another when it does not.

A frame is never copied here: it is a view into memory that the child wrote, free again when nobody refers to
it.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.base import Frame, clean_part_id
from edge_agent.sources.camera_process import CameraProcess
from edge_agent.sources.grab import SourceJob
from edge_agent.sources.kinds import without
from edge_agent.sources.ring import Arrived, Remark

MOST_WORDS = 300
_PREFIX = re.compile(r"^(\[[^\]]*@[^\]]*\]\s*)+")
STALLED = "camera.stalled"
OTHERWISE = "capture.otherwise"
"""The camera does not do what the configuration asks of it; parts are inspected all the same."""


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """Say how a live source is read; `newest` lets a newer frame replace those not read yet."""

    camera: str
    newest: bool = True
    follow: bool = True
    frames_per_part: int = 1
    secrets: tuple[str, ...] = ()
    """What must not stand in any message."""


class LiveReader:
    """Give the frames of a live source; each, or every few, a part of its own."""

    def __init__(
        self,
        job: SourceJob,
        options: LiveOptions,
        counters: Counters,
        events: Events,
        start: Callable[[SourceJob], CameraProcess] = CameraProcess,
    ) -> None:
        self._job = job
        self._options = options
        self._counters = counters
        self._events = events
        self._start = start
        self._child: CameraProcess | None = None
        self._undead: list[subprocess.Popen[bytes]] = []
        self._arrived: deque[Arrived] = deque()
        self._error: SourceError | None = None
        self._heard_at = 0.0
        self._limit_s = job.open_s
        self._dropped = 0
        self._ended = False
        self._namer = PartNamer(options.camera, options.frames_per_part)
        self._where = without(job.target, options.secrets)

    @property
    def child_pid(self) -> int | None:
        """Return the process number of the child that holds the source now."""
        return None if self._child is None else self._child.pid

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or the newest.

        Raises:
            SourceError: the source cannot be opened, was lost or has stalled; the next call opens it again.
        """
        if not self._arrived and self._error is None:
            self._listen(wait_s)
        if self._arrived:
            return self._named(self._arrived.popleft())
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return None

    def is_ended(self) -> bool:
        """Tell whether the stream was lost and is not to be opened again."""
        return self._ended and not self._arrived and self._error is None

    def close(self) -> None:
        """Kill the child."""
        child, self._child = self._child, None
        if child is not None:
            left = child.end()
            if left is not None:
                self._undead.append(left)
                self._events.note("camera.undead", pid=left.pid)
        self._undead = [process for process in self._undead if process.poll() is None]

    def _listen(self, wait_s: float) -> None:
        child = self._child or self._open()
        try:
            found = child.receive(wait_s)
        except TimeoutError:
            self._judge_silence()
            return
        except EOFError:
            self._lose(child, Remark("E", {"got": "its process ended"}))
            return
        self._heard_at = time.monotonic()
        self._count_dropped(child.dropped)
        for item in found:
            if isinstance(item, Arrived):
                self._arrived.append(item)
            else:
                self._heed(child, item)
        if self._arrived:
            self._limit_s = self._job.stall_s
            self._events.clear_problem(STALLED)
        if self._options.newest and len(self._arrived) > 1:
            self._counters.add(names.DROPPED, len(self._arrived) - 1)
            self._arrived = deque([self._arrived[-1]])

    def _open(self) -> CameraProcess:
        try:
            self._child = self._start(self._job)
        except OSError as error:
            raise SourceError(
                expected="a process for the camera", got=str(error.strerror), where=self._where
            ) from error
        self._events.clear_problem(OTHERWISE)
        self._heard_at, self._limit_s, self._dropped = time.monotonic(), self._job.open_s, 0
        # What lay before the camera when it was lost lies there no more.
        self._namer.begin_anew()
        return self._child

    def _judge_silence(self) -> None:
        """Kill a child that said nothing for too long; it may hang where no timeout reaches."""
        silent_s = time.monotonic() - self._heard_at
        if silent_s < self._limit_s:
            return
        self._events.set_problem(STALLED, f"no frame for {self._limit_s:g} s: {self._where}")
        self._events.note(STALLED, silent_s=round(silent_s, 3))
        self.close()
        self._error = SourceError(expected="a frame", got=f"none for {self._limit_s:g} s", where=self._where)

    def _heed(self, child: CameraProcess, remark: Remark) -> None:
        if remark.kind == "E":
            self._lose(child, remark)
            return
        words = without(str(remark.fields.get("otherwise", remark.fields)), self._options.secrets)
        self._events.note(OTHERWISE, problem=words)
        self._events.set_problem(OTHERWISE, words)

    def _lose(self, child: CameraProcess, remark: Remark) -> None:
        """Take in that the child has ended; frames that came before are still given."""
        if self._child is not child:
            return
        words, fields = plain_words(child.last_words()), remark.fields
        self.close()
        got = str(fields.get("got", ""))
        if words:
            got = f"{got} ({words})"
        self._error = SourceError(
            expected=str(fields.get("expected", "a frame")),
            got=without(got, self._options.secrets),
            where=self._where,
            now=str(fields.get("now", "")),
        )
        self._ended = not self._options.follow

    def _count_dropped(self, dropped: int) -> None:
        if dropped > self._dropped:
            self._counters.add(names.DROPPED, dropped - self._dropped)
            self._dropped = dropped

    def _named(self, arrived: Arrived) -> Frame:
        captured_at = datetime.fromtimestamp(arrived.moment.wall, tz=timezone.utc)
        part_id, number, is_last = self._namer.next(captured_at)
        return Frame(
            image=arrived.image,
            captured_at=captured_at,
            part_id=part_id,
            frame_in_part=number,
            captured_mono=arrived.moment.mono,
            last_in_part=is_last,
        )


def plain_words(text: str) -> str:
    r"""Return a driver's last words without addresses and times, so that the same mistake reads the same.

    >>> plain_words("[rtsp @ 0x55f0] method DESCRIBE failed: 401\n[ WARN:0@0.02] VIDEOIO(FFMPEG): no")
    'method DESCRIBE failed: 401'
    """
    lines = [_PREFIX.sub("", line).strip() for line in text.splitlines() if "VIDEOIO(" not in line]
    return "; ".join(dict.fromkeys(filter(None, lines)))[-MOST_WORDS:]


class PartNamer:
    """Name parts by camera and time, each of as many frames."""

    def __init__(self, camera: str, frames_per_part: int = 1) -> None:
        self._camera = clean_part_id(camera)[:64]
        self._frames_per_part = frames_per_part
        self._part_id = ""
        self._number = 0

    def begin_anew(self) -> None:
        """Let the next frame be the first of a part."""
        self._number = 0

    def next(self, moment: datetime) -> tuple[str, int, bool]:
        """Return part, number within it and whether it is the part's last."""
        number = self._number
        if number == 0:
            self._part_id = part_name(self._camera, moment)
        self._number = (number + 1) % self._frames_per_part
        return self._part_id, number, self._number == 0


def part_name(camera: str, moment: datetime) -> str:
    """Name a part by the camera and the moment, in milliseconds."""
    return f"{camera}-{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}"
