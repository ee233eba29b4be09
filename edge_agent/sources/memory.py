"""Be a source of frames without a camera: the in-memory twin of every reader."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from edge_agent.sources.base import Frame


class MemoryReader:
    """Give the frames it was fed, in order; ended once `end` was called and all were read."""

    def __init__(self, frames: Iterable[Frame] = (), *, ends: bool = False) -> None:
        self._frames = deque(frames)
        self._changed = threading.Condition()
        self._ends = ends
        self.closed = False

    def feed(self, *frames: Frame) -> None:
        """Add frames to be read."""
        with self._changed:
            self._frames.extend(frames)
            self._changed.notify_all()

    def end(self) -> None:
        """Let the source end once all frames were read."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or None when none came in time."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._frames) or self._ends, timeout=wait_s)
            return self._frames.popleft() if self._frames else None

    def is_ended(self) -> bool:
        """Tell whether no frame will ever come again."""
        with self._changed:
            return self._ends and not self._frames

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
