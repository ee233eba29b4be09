"""Let a problem stand while parts go by without their pulse: a counter alone is seen too late."""

from __future__ import annotations

import time

from edge_agent.events import Events

STANDS_S = 60.0
"""So long after the last such part the problem stands."""
WORDS = {
    "late": "they were decided after their due time (travel_ms, late_ok_ms)",
    "queue full": "too many were under way (queue_parts)",
    "away": "the device was away",
}


class MissedParts:
    """Be problem `output.missed.<name>` of one output."""

    def __init__(self, name: str, events: Events) -> None:
        self._problem = f"output.missed.{name}"
        self._events = events
        self._last: tuple[float, str] | None = None

    def note(self, why: str) -> None:
        """Remember that a part went by; may be called on any thread, and never waits."""
        self._last = (time.monotonic(), why)

    def tell(self, now: float) -> None:
        """Set or end the problem at `now`, seconds of `time.monotonic()`."""
        last = self._last
        if last is None:
            return
        at, why = last
        if now - at < STANDS_S:
            self._events.set_problem(self._problem, f"parts went by without their pulse: {WORDS[why]}")
            return
        self._last = None
        self._events.clear_problem(self._problem)
