"""Time how a run begins on a machine: claim, check, documents, data, the child's start, the first step.

Told once, with the first epoch: when its first step began is known by then, and the record goes out with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.backend_job import BackendEvent
from trainer.rented.clock import ticks

_SLACK = 1.0
"""Seconds by which an event may be heard later than it was said."""


@dataclass(slots=True)
class Beginning:
    """Note when each part of a beginning was done.

    Args:
        began: when the machine's first process of ours started, in `ticks`.
        lease: under which it runs; without one nothing is told.
        now: the clock.
    """

    began: float = 0.0
    lease: str = ""
    now: Callable[[], float] = ticks
    _marks: list[tuple[str, float]] = field(default_factory=list)
    _told: bool = False

    def mark(self, part: str) -> None:
        """Say that a part is done now."""
        self._marks.append((part, self.now()))

    def heard(self, event: BackendEvent) -> dict[str, Any] | None:
        """Take an event of the training child; return what to tell when the first epoch is done, or None."""
        if self._told or not self.lease:
            return None
        if event.kind == "started":
            self.mark("child")
        if event.kind != "epoch":
            return None
        # An epoch tells how long it took, and so when its first step began.
        first_step = self.now() - float(event.data.get("seconds", 0.0))
        if self._marks and first_step < self._marks[-1][1] - _SLACK:
            return None  # trained before this machine, and told again by the child that goes on from it
        self._told = True
        self._marks.append(("first_step", first_step))
        return self._in_words()

    def _in_words(self) -> dict[str, Any]:
        parts: dict[str, float] = {}
        before = self.began
        for part, at in self._marks:
            parts[part] = round(parts.get(part, 0.0) + max(at - before, 0.0), 3)
            before = max(at, before)
        total = round(before - self.began, 3)
        told = ", ".join(f"{part.replace('_', ' ')} {seconds:.1f}" for part, seconds in parts.items())
        why = f"first step {total:.1f} s after the machine's first process: {told}"
        return {"kind": "start", "why": why, "lease": self.lease, "evidence": {**parts, "seconds": total}}
