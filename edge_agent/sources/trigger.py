"""Say what a trigger is: somebody tells that a part lies before the camera.

A pulse may carry a part's name and why an operator or PLC flagged it.

    >>> read_payload(b'{"part_id": "board 7", "flag": "scratch"}')
    Told(part_id='board-7', flag='scratch', number=None)
    >>> read_payload(b"board-7").part_id
    'board-7'
    >>> read_payload(b"")
    Told(part_id='', flag='', number=None)
"""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.sources.base import clean_part_id

AWAY = "camera.trigger-away"
MOST_PULSES = 256
"""Pulses that may wait; a line that is further ahead has long passed the camera."""
LONGEST_PAYLOAD = 4096
LONGEST_FLAG = 200


@dataclass(frozen=True, slots=True)
class TriggerPulse:
    """Hold one pulse; `part_id` "" lets the agent name the part."""

    part_id: str = ""
    at_mono: float = field(default_factory=time.monotonic)
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """Hold what a pulse's message says; `number` counts pulses, so that a gap shows what was lost."""

    part_id: str
    flag: str
    number: int | None


class Trigger(Protocol):
    """Be what tells of parts. `start` and `close` are called once, `wait` by one thread."""

    def start(self) -> None:
        """Begin to listen."""

    def wait(self, seconds: float) -> TriggerPulse | None:
        """Return the next pulse, or None when none came in time; 0 does not wait."""

    def close(self) -> None:
        """End listening within about a second."""


class PulseQueue:
    """Hand pulses from whoever hears them to the one that waits; what has no place is counted as missed."""

    def __init__(self, counters: Counters, events: Events) -> None:
        self._counters = counters
        self._events = events
        self._pulses: deque[TriggerPulse] = deque()
        self._changed = threading.Condition()

    def put(self, *pulses: TriggerPulse, lost: int = 0) -> None:
        """Add pulses before which `lost` were not heard; those that come when too many wait are lost too."""
        with self._changed:
            taken = pulses[: MOST_PULSES - len(self._pulses)]
            self._pulses.extend(taken)
            self._changed.notify_all()
        self.note_lost(lost + len(pulses) - len(taken))

    def note_lost(self, pulses: int) -> None:
        """Count parts of which no frame will be taken."""
        if pulses:
            self._counters.add(names.MISSED, pulses)
            self._events.note("camera.trigger-lost", pulses=pulses)

    def wait(self, seconds: float) -> TriggerPulse | None:
        """Return the oldest pulse, or None when none came in time."""
        with self._changed:
            if not self._pulses and seconds > 0:
                self._changed.wait_for(lambda: bool(self._pulses), timeout=seconds)
            return self._pulses.popleft() if self._pulses else None


class ThreadedTrigger(ABC):
    """Hear pulses on a thread of its own; `_run` is its body and ends soon after `_stop` is set."""

    def __init__(self, counters: Counters, events: Events) -> None:
        self._events = events
        self._queue = PulseQueue(counters, events)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trigger", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def wait(self, seconds: float) -> TriggerPulse | None:
        """Return the oldest pulse."""
        return self._queue.wait(seconds)

    def close(self) -> None:
        """End listening."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(1.0)

    @abstractmethod
    def _run(self) -> None:
        """Listen until told to stop."""


class MemoryTrigger:
    """Be a trigger without a PLC: pulses are fired by a call."""

    def __init__(self) -> None:
        self._queue = PulseQueue(Counters(), Events())
        self.closed = False

    def start(self) -> None:
        """Do nothing."""

    def fire(self, part_id: str = "", flag: str = "", at_mono: float | None = None) -> TriggerPulse:
        """Send a pulse, now or as of another moment."""
        pulse = TriggerPulse(part_id, time.monotonic() if at_mono is None else at_mono, flag)
        self._queue.put(pulse)
        return pulse

    def wait(self, seconds: float) -> TriggerPulse | None:
        """Return the oldest pulse."""
        return self._queue.wait(seconds)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def read_payload(payload: bytes) -> Told:
    """Read a message: JSON with `part_id`, `flag` and `number`, a plain part id, or nothing at all.

    Never raises: a pulse with a payload nobody understands is still a part.
    """
    text = payload[:LONGEST_PAYLOAD].decode("utf-8", "replace").strip()
    try:
        value = json.loads(text) if text.startswith("{") else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        is_name = text and not text.startswith("{")
        return Told(clean_part_id(text) if is_name else "", "", None)
    part_id, flag, number = value.get("part_id"), value.get("flag"), value.get("number")
    return Told(
        clean_part_id(str(part_id)) if part_id not in (None, "") else "",
        str(flag)[:LONGEST_FLAG] if flag else "",
        number if isinstance(number, int) and not isinstance(number, bool) else None,
    )


def lost_between(before: int | None, now: int, wraps_at: int = 0) -> int:
    """Return how many pulses lie between two counts, without the last; a counter that went back began anew.

    One that wraps went back when the way forward would be more than half of its range.

    >>> lost_between(7, 8), lost_between(7, 10), lost_between(None, 3), lost_between(65535, 1, 65536)
    (0, 2, 0, 1)
    >>> lost_between(500, 0, 65536)
    0
    """
    if before is None:
        return 0
    step = (now - before) % wraps_at if wraps_at else now - before
    if wraps_at and step > wraps_at // 2:
        return 0
    return max(0, step - 1)
