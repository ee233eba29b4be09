"""Look at every frame before the loop does, so that a blind camera is a fault and not a row of good parts."""

from __future__ import annotations

from dataclasses import replace

from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.sources.base import Frame, FrameReader
from edge_agent.sources.faults import BLACK, FROZEN, SIZE, FaultLimits, FrozenWatch, Look, fault_of, look

SIZE_CHANGED = "camera.size-changed"
SIZE_PROBLEM = "capture.size-changed"
"""Problems of `capture.` are to be looked at; those of `camera.` mean that parts pass uninspected."""
WORDS = {
    BLACK: "the picture is black: look for the lens cap, the light and the exposure",
    FROZEN: "the picture stands still to the last pixel: restart the camera",
    SIZE: "the picture has another size than camera.width and camera.height",
}


class CheckedReader:
    """Mark the faulty frames of a reader, count and report them; or keep them back."""

    def __init__(
        self,
        reader: FrameReader,
        limits: FaultLimits,
        counters: Counters,
        events: Events,
        *,
        withhold: bool = False,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._counters = counters
        self._events = events
        self._withhold = withhold
        self._watch = FrozenWatch(limits)
        self._standing = ""
        self._first_size = (0, 0)
        self._size = (0, 0)

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, its `fault` set; None also for a faulty one that is kept back.

        Raises:
            SourceError: what the reader raises.
        """
        frame = self._reader.read(wait_s)
        if frame is None:
            return None
        seen = look(frame.image)
        self._note_size(seen)
        fault = fault_of(seen, frame.captured_mono, self._limits, self._watch)
        self._report(fault, seen)
        if not fault:
            return frame
        self._counters.add(names.FAULTY)
        return None if self._withhold else replace(frame, fault=fault)

    def is_ended(self) -> bool:
        """Tell whether no frame will ever come again."""
        return self._reader.is_ended()

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

    def _report(self, fault: str, seen: Look) -> None:
        if fault == self._standing:
            return
        if self._standing:
            self._events.clear_problem(f"camera.{self._standing}")
        if fault:
            size = f"{seen.size[0]}x{seen.size[1]}"
            self._events.note(f"camera.{fault}", size=size, mean=round(seen.mean, 1))
            self._events.set_problem(f"camera.{fault}", f"{WORDS[fault]} ({size}, mean {seen.mean:.0f})")
        self._standing = fault

    def _note_size(self, seen: Look) -> None:
        """Report once that a camera sends another size; the problem ends when the first size is back."""
        if seen.size == self._size:
            return
        before, self._size = self._size, seen.size
        if before == (0, 0):
            self._first_size = seen.size
            return
        words = f"{before[0]}x{before[1]} became {seen.size[0]}x{seen.size[1]}"
        self._events.note(SIZE_CHANGED, change=words)
        if seen.size == self._first_size:
            self._events.clear_problem(SIZE_PROBLEM)
        else:
            self._events.set_problem(SIZE_PROBLEM, words)
