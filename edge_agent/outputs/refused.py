"""Let a problem stand for addresses that the device refuses, for as long as it does.

Every write tries again, so a PLC whose program was corrected is noticed without a restart.
"""

from __future__ import annotations

from edge_agent.events import Events
from edge_agent.outputs.base import Point


class RefusedPoints:
    """Be problem `output.refused.<name>` of one output; one thread uses it."""

    def __init__(self, name: str, events: Events) -> None:
        self._problem = f"output.refused.{name}"
        self._events = events
        self._why: dict[Point, str] = {}

    def note(self, point: Point, why: str) -> None:
        """Remember that a point was refused."""
        if self._why.get(point) != why:
            self._why[point] = why
            self._tell()

    def over(self, point: Point) -> None:
        """Forget a point that was set."""
        if self._why.pop(point, None) is not None:
            self._tell()

    def _tell(self) -> None:
        if not self._why:
            self._events.clear_problem(self._problem)
            return
        words = "; ".join(f"{point}: {why}" for point, why in sorted(self._why.items()))
        self._events.set_problem(self._problem, words)
