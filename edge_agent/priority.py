"""Let the line go first: whatever is not the loop yields the processor and the interpreter to it.

Two things can hold the loop's next step though it is ready: another thread on its core, and another thread
that has the interpreter's lock. The first is what niceness is for, per thread on Linux. The lock is handed
over after Python's switch interval, five milliseconds by default, half a small model's frame.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

BACKGROUND_NICENESS = 5
"""A third of the loop's share where they want the same core; enough to go on where the line never rests."""
SWITCH_INTERVAL_S = 0.0005
"""Measured: beside a thread that computes in Python, a frame of 12 ms took 49 ms at 5 ms, 17 ms at this."""


def hand_over_quickly() -> None:
    """Let a thread that waits for the interpreter's lock have it soon; for the whole process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def keep_to(threads: int) -> None:
    """Let OpenCV use no more threads than a frame's inference may; else a resize takes the engine's core."""
    import cv2

    cv2.setNumThreads(threads)


def in_background(work: Callable[..., None]) -> Callable[..., None]:
    """Return the work of a thread that yields the processor to the loop."""

    def run(*arguments: object) -> None:
        yield_to_the_line()
        work(*arguments)

    return run


def yield_to_the_line() -> None:
    """Lower the priority of the calling thread; nothing happens where threads have none of their own."""
    if sys.platform != "linux":
        return
    with suppress(OSError):  # a sandbox may forbid it; the thread then competes as before
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
