"""Prepare the frame that waits for the loop on another thread, while the engine runs on the one before.

The frame stays in the source until the loop takes it: nothing can be lost here, a live source may still
replace it by a newer one, and what was prepared is only a head start that the loop may do without. A frame
prepared for a model that was replaced meanwhile is prepared again by the new model's detector.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Literal, Protocol

from edge_agent.model_slot import ModelSlot
from edge_agent.sources.base import Frame

if TYPE_CHECKING:
    from detection.session import Prepared

logger = logging.getLogger("whetstone.edge.prefetch")
LOOK_S = 0.5
"""The thread looks so often whether it should end."""
LIMIT_S = 1.0
"""The loop waits no longer for a frame that is being prepared; it takes a millisecond."""
Overlap = Literal["auto", "on", "off"]


class NextFrame(Protocol):
    """Show the frame the loop would take next; `Capture` is the real one."""

    def peek(self, known: Frame | None, wait_s: float) -> Frame | None:
        """Return the next frame without taking it, or None when for `wait_s` there was none but `known`."""

    def is_ended(self) -> bool:
        """Tell whether no frame will ever come again."""


def should_overlap(wish: Overlap, threads: int) -> bool:
    """Tell whether a frame is prepared beside the engine: by itself only where a core is left for it."""
    if wish != "auto":
        return wish == "on"
    # Not every system tells which cores the process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores > threads


class Prefetch:
    """Prepare frames ahead of the loop.

    Args:
        source: asked for the next frame.
        slot: whose serving model prepares it.
    """

    def __init__(self, source: NextFrame, slot: ModelSlot) -> None:
        self._source = source
        self._slot = slot
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._prepared: Prepared | None = None
        self._is_busy = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self.used = 0
        """Frames whose head start the loop took."""

    def start(self) -> None:
        """Begin to prepare."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, which may still be at a frame; nothing waits for it."""
        self._stop.set()

    def take(self, frame: Frame) -> Prepared | None:
        """Return the frame prepared, or None when the caller has to do so."""
        with self._changed:
            if self._frame is not frame:
                return None
            if self._is_busy:
                self._changed.wait_for(lambda: not self._is_busy or self._frame is not frame, LIMIT_S)
            if self._frame is not frame:
                # Before this thread woke the other one went on: what is there now is of the next frame.
                return None
            prepared, self._prepared, self._frame = self._prepared, None, None
        self.used += prepared is not None
        return prepared

    def _run(self) -> None:
        known: Frame | None = None
        while not self._stop.is_set():
            frame = self._source.peek(known, LOOK_S)
            if frame is not None:
                known = frame
                self._prepare(frame)
            elif self._source.is_ended():
                self._stop.wait(LOOK_S)

    def _prepare(self, frame: Frame) -> None:
        model = self._slot.current()
        if model is None or frame.fault:
            return
        with self._changed:
            self._frame, self._prepared, self._is_busy = frame, None, True
        prepared: Prepared | None = None
        try:
            prepared = model.detector.prepare(frame.image)
        except Exception:  # the loop meets the same error at this frame, and tells of it
            logger.debug("prefetch.failed", exc_info=True)
        with self._changed:
            self._prepared, self._is_busy = prepared, False
            self._changed.notify_all()
