"""Count what became of parts, and let a problem stand while they go by without their pulse.

A counter alone is seen too late.
"""

from __future__ import annotations

import time

from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.outputs.base import Shot
from edge_agent.outputs.options import WorkerOptions

STANDS_S = 60.0
"""So long after the last such part the problem stands."""
WORDS = {
    "late": "they were decided after their due time (travel_ms, late_ok_ms)",
    "queue full": "too many were under way (queue_parts)",
    "away": "the device was away",
}


class MissedParts:
    """Be the counters, events and problem `output.missed.<name>` of one output."""

    def __init__(self, options: WorkerOptions, counters: Counters, events: Events) -> None:
        self._options = options
        self._problem = f"output.missed.{options.name}"
        self._counters = counters
        self._events = events
        self._last: tuple[float, str] | None = None

    def count(self, what: str) -> None:
        """Count a part by what became of it; may be called on any thread."""
        self._counters.add(f"{names.OUTPUT}{self._options.name}.{what}")

    def turned_away(self, shot: Shot) -> None:
        """Count a part there was no room for; called on the loop's thread, so it neither waits nor logs."""
        self.count("missed")
        self._remember(shot, "queue full")

    def note(self, shot: Shot, why: str, late_s: float) -> None:
        """Count a part that was not acted on; one the fail-safe state does not stand in for is told."""
        is_held = why == "held"
        self.count("held" if is_held else "missed")
        if is_held and (self._options.mode == "reject_all" or not self._options.routing.pulses(shot)):
            return
        self._events.note(
            "output.held" if is_held else "output.missed",
            output=self._options.name,
            part=shot.part_id,
            verdict=shot.verdict,
            why=why,
            late_ms=round(late_s * 1000.0, 1),
        )
        if not is_held:
            self._remember(shot, why)

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

    def _remember(self, shot: Shot, why: str) -> None:
        if self._options.routing.pulses(shot):
            self._last = (time.monotonic(), why)
