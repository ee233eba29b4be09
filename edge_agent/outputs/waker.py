"""Let one thread wake another out of an exact wait.

The wait is the kernel's relative one. A condition's timed wait may, below Python 3.11, count on the wall
clock, and a box without a battery clock sets that by years soon after its start; an ejector must not wait
for it.
"""

from __future__ import annotations

import os
import select
import weakref
from contextlib import suppress


class Waker:
    """Be a doorbell: `wake` never waits, `wait` ends at a wake or after a time."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Closed only when nobody holds the bell: its number must never mean another file to a late caller.
        weakref.finalize(self, os.close, self._fd)

    def wake(self) -> None:
        """End the wait that is or the next one."""
        # A bell that rings already needs no second ring.
        with suppress(BlockingIOError):
            os.eventfd_write(self._fd, 1)

    def wait(self, seconds: float) -> None:
        """Wait for a wake, at most so long; exact to some tens of microseconds."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._fd)
