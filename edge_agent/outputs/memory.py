"""Be an output without a device: the in-memory twin of the adapters. It can be away, and it can hang."""

from __future__ import annotations

import threading
import time

from edge_agent.errors import OutputAway
from edge_agent.outputs.base import Point, Write
from edge_agent.settings.outputs import ALL_POINTS


class MemoryOutput:
    """Remember every write and when it came.

    Attributes:
        writes: moment in seconds of `time.monotonic()`, and what was written.
        levels: what each point shows now.
        away: whether the device refuses everything.
        hangs_s: how long every call takes before it fails, as with a device that does not answer; 0 = none.
    """

    def __init__(self, points: frozenset[Point] = frozenset(ALL_POINTS)) -> None:
        self.points = points
        self.writes: list[tuple[float, Write]] = []
        self.levels: dict[Point, int] = {}
        self.away = False
        self.hangs_s = 0.0
        self.connects = 0
        self._answered = threading.Event()

    def connect(self) -> None:
        """Connect, unless it is away."""
        self._try("connect")
        self.connects += 1

    def write(self, write: Write) -> None:
        """Remember a write."""
        self._try(f"write {write.point}")
        self.levels[write.point] = write.value
        self.writes.append((time.monotonic(), write))

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def of(self, point: Point, value: int = 1) -> list[tuple[float, Write]]:
        """Return the writes of one value to one point, in order."""
        return [
            (at, write) for at, write in list(self.writes) if (write.point, write.value) == (point, value)
        ]

    def _try(self, what: str) -> None:
        if self.hangs_s:
            self._answered.wait(self.hangs_s)
        if self.away or self.hangs_s:
            raise OutputAway(expected=f"an answer to {what}", got="none", where="memory output")
