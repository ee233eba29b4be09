"""Read frames on a thread of their own, so that a slow or hung camera never holds the loop.

In mode `every` the reader waits until the loop has taken a frame: none is skipped. It also waits a moment
for a slow disk, since a file can lie where a camera cannot. In mode `live` the newest frame replaces one the
loop has not taken: the old one is counted as dropped. In mode `parts` a trigger has chosen the frames: none
is replaced, since each is a part, and no disk is waited for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edge_agent import counters as names
from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.base import Frame, FrameReader

logger = logging.getLogger("whetstone.edge.sources")
PATIENCE_S = 2.0
"""How long a file may wait for a slow disk before examples are given up instead."""
READ_AHEAD = 2
"""Frames decoded ahead of the loop in mode `every`; two let reading and inspecting overlap."""


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """Say how frames are passed on; `fps_limit` 0 = none."""

    mode: Literal["every", "live", "parts"] = "every"
    fps_limit: float = 0.0
    read_ahead: int = READ_AHEAD
    poll_s: float = 0.2
    retry_limit_s: float = 30.0


def always() -> bool:
    """Say yes."""
    return True


def ignore_frame(frame: Frame) -> None:
    """Do nothing with a frame that is not passed on."""


@dataclass(frozen=True, slots=True)
class CaptureHooks:
    """Hold what a capture asks and tells; both are called on its thread.

    `on_skip` hears of every frame that was let go; `has_room` says whether what comes after the loop can
    take an example more.
    """

    on_skip: Callable[[Frame], None] = ignore_frame
    has_room: Callable[[], bool] = always


class Capture:
    """Pass frames from a reader to the loop."""

    def __init__(
        self,
        reader: FrameReader,
        options: CaptureOptions,
        counters: Counters,
        events: Events,
        hooks: CaptureHooks | None = None,
    ) -> None:
        self._reader = reader
        self._options = options
        self._counters = counters
        self._events = events
        self._hooks = hooks or CaptureHooks()
        self._is_patient = True
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._last_frame_at = time.monotonic()
        self._next_due = 0.0
        self._reading_since = 0.0
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._last_frame_at = time.monotonic()
        self._thread.start()

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or None when none came within `wait_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._frames) or self._ended, timeout=wait_s)
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame

    def peek(self, known: Frame | None, wait_s: float) -> Frame | None:
        """Return the next frame without taking it, or None when for `wait_s` there was none but `known`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._frames[0] is not known if self._frames else self._ended, timeout=wait_s
            )
            frame = self._frames[0] if self._frames else None
            return None if frame is known else frame

    def is_ended(self) -> bool:
        """Tell whether the source has ended and its last frame was taken."""
        with self._changed:
            return self._ended and not self._frames

    def idle_s(self) -> float:
        """Return how long the source has given nothing, in seconds."""
        return time.monotonic() - self._last_frame_at

    def stuck_s(self) -> float:
        """Return for how many seconds the reader has not come back from one call; 0 when it is in none."""
        since = self._reading_since
        return time.monotonic() - since if since else 0.0

    def stop(self, wait_s: float = 1.0) -> None:
        """End reading; a reader that hangs in its driver is left to die with the process."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def _run(self) -> None:
        backoff = Backoff(0.5, self._options.retry_limit_s)
        while not self._stop.is_set() and not self._reader.is_ended():
            try:
                frame = self._read()
            except SourceError as error:
                self._events.set_problem("source.away", str(error))
                self._stop.wait(backoff.next_s())
                continue
            except Exception as error:  # noqa: BLE001 - a driver's own error must not end the thread silently
                self._events.set_problem("source.failed", f"{type(error).__name__}: {error}")
                self._stop.wait(backoff.next_s())
                continue
            if frame is not None:
                backoff.reset()
                self._events.clear_problem("source.away")
                self._events.clear_problem("source.failed")
                self._events.clear_problem("source.hung")
                self._pass_on(frame)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._reader.close()

    def _read(self) -> Frame | None:
        self._reading_since = time.monotonic()
        try:
            return self._reader.read(self._options.poll_s)
        finally:
            self._reading_since = 0.0

    def _pass_on(self, frame: Frame) -> None:
        self._last_frame_at = time.monotonic()
        live = self._options.mode == "live"
        if not self._is_due(live=live):
            self._hooks.on_skip(frame)
            return
        if self._options.mode == "every":
            self._wait_for_room()
        with self._changed:
            if live and self._frames:
                self._hooks.on_skip(self._frames.popleft())
                self._counters.add(names.DROPPED)
            self._changed.wait_for(self._has_place)
            self._frames.append(frame)
            self._last_frame_at = time.monotonic()
            self._changed.notify_all()

    def _has_place(self) -> bool:
        return len(self._frames) < self._options.read_ahead or self._stop.is_set()

    def _wait_for_room(self) -> None:
        """Leave a frame where it lies while the disk catches up, but only for so long: the line never waits.

        Patience that was used up comes back when there is room again; until then examples are lost and
        counted rather than frames delayed.
        """
        deadline = time.monotonic() + (PATIENCE_S if self._is_patient else 0.0)
        while not self._hooks.has_room():
            if time.monotonic() >= deadline or self._stop.wait(0.005):
                self._is_patient = False
                return
        self._is_patient = True

    def _is_due(self, *, live: bool) -> bool:
        """Hold to the frame rate: a file waits for its time, a camera's early frame is let go."""
        if self._options.fps_limit <= 0 or self._options.mode == "parts":
            return True
        early_s = self._next_due - time.monotonic()
        if live and early_s > 0:
            return False
        if early_s > 0:
            self._stop.wait(early_s)
        self._next_due = max(self._next_due, time.monotonic() - 1.0) + 1.0 / self._options.fps_limit
        return True
