"""See whether a training goes on: the child touches a file while it steps, and its parent looks at its age.

A loader whose worker waits for a lock, a card that fell off the bus or devices that wait for each other raise
nothing: such a child would wait for ever, and its machine be paid for. What is no step (caches, validation, a
checkpoint between epochs, the export) may take as long as it likes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

LONGEST_STEP_SECONDS = 1800.0
"""No step takes so long, compiling and a cold disk included."""
BEAT_SECONDS = 5.0
PAUSED_SECONDS = 60.0
"""A parent that did not look for so long was paused, and its child with it: nothing is held against that."""


class Beat:
    """Say from within a training that it steps.

    Args:
        path: the file that is touched.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beaten = -BEAT_SECONDS

    def step(self) -> None:
        """Say that a step begins or ends, or that a batch is asked for; cheap enough for every step."""
        now = time.monotonic()
        if now - self._beaten < BEAT_SECONDS:
            return
        self._beaten = now
        # A disk that takes no file any more leaves the training unwatched; that is no reason to end it.
        with suppress(OSError):
            self._path.touch()

    def rest(self) -> None:
        """Say that what comes now is no step."""
        self._beaten = -BEAT_SECONDS
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Stillness:
    """Tell from outside when a training has stood still in a step for too long.

    Args:
        path: the file that the child touches; what an earlier child left of it is removed.
        longest: seconds.
    """

    def __init__(self, path: Path, longest: float = LONGEST_STEP_SECONDS) -> None:
        self._path = path
        self._seen = -1
        self._since = self._looked = time.monotonic()
        self.longest = longest
        self.was_too_long = False
        """Whether the child was ended for it."""
        path.unlink(missing_ok=True)

    def is_too_long(self) -> bool:
        """Look at the file, a few times a second; what the machine was paused for does not count."""
        try:
            seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            seen = -1
        now = time.monotonic()
        paused = now - self._looked > PAUSED_SECONDS
        self._looked = now
        if seen != self._seen or seen < 0 or paused:
            self._seen, self._since = seen, now
        return now - self._since > self.longest
