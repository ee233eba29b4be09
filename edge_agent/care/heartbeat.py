"""Let the loop say that it turns; as cheap as a few attribute writes, read by the watchdog's thread.

The loop beats each turn, frame or none, and marks the time it spends within an engine. Nothing here locks:
every attribute is written by the loop's thread alone, and a reader that is one write late is no worse off.

    >>> heart = Heartbeat()
    >>> heart.beat()
    >>> with heart.engine():
    ...     heart.engine_since_mono > 0
    True
    >>> heart.engine_since_mono
    0.0
"""

from __future__ import annotations

import time


class Heartbeat:
    """Hold when the loop last turned and since when it is within an engine call.

    Attributes:
        beats: turns of the loop so far; 0 = it has not begun.
        last_beat_mono: seconds of `time.monotonic()` at the last sign of life.
        engine_since_mono: seconds of `time.monotonic()` at which the running engine call began; 0.0 = none.
    """

    __slots__ = ("_call", "beats", "engine_since_mono", "last_beat_mono")

    def __init__(self) -> None:
        self.beats = 0
        self.last_beat_mono = time.monotonic()
        self.engine_since_mono = 0.0
        self._call = _EngineCall(self)

    def beat(self) -> None:
        """Say that the loop has turned; called each turn, at least once a second."""
        self.last_beat_mono = time.monotonic()
        self.beats += 1

    def enter_engine(self) -> None:
        """Say that an engine call begins; its own, longer deadline holds until it is left."""
        self.engine_since_mono = time.monotonic()

    def leave_engine(self) -> None:
        """Say that the engine call has ended, well or by an error."""
        # The beat first: between the two writes a reader sees a call that still runs, never a silent loop.
        self.last_beat_mono = time.monotonic()
        self.engine_since_mono = 0.0

    def engine(self) -> _EngineCall:
        """Return what `with` marks an engine call by; always the same object, so nothing is allocated."""
        return self._call


class _EngineCall:
    """Mark an engine call; calls do not nest, for one thread runs one engine."""

    __slots__ = ("_heart",)

    def __init__(self, heart: Heartbeat) -> None:
        self._heart = heart

    def __enter__(self) -> None:
        self._heart.enter_engine()

    def __exit__(self, *_: object) -> None:
        self._heart.leave_engine()
