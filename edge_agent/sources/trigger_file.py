"""Be triggered by a file to which programs on the box append lines, each of them a pulse."""

from __future__ import annotations

import time
from pathlib import Path

from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.sources.trigger import AWAY, PulseQueue, TriggerPulse, read_payload

LOOK_S = 0.002
MOST_BYTES = 65536


class FileTrigger:
    """Read the lines appended after `start`; a file that became shorter is read from its beginning."""

    def __init__(self, path: Path, counters: Counters, events: Events) -> None:
        self._path = path
        self._events = events
        self._queue = PulseQueue(counters, events)
        self._offset = 0
        self._rest = b""

    def start(self) -> None:
        """Pass over what the file holds already."""
        self._offset = self._path.stat().st_size if self._path.exists() else 0

    def wait(self, seconds: float) -> TriggerPulse | None:
        """Return the next line's pulse, stamped when it was found."""
        deadline = time.monotonic() + seconds
        while True:
            self._look()
            pulse = self._queue.wait(0)
            if pulse is not None or time.monotonic() >= deadline:
                return pulse
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Do nothing: no handle is kept open."""

    def _look(self) -> None:
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return
            if size < self._offset:
                self._offset, self._rest = 0, b""
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(MOST_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            self._events.set_problem(AWAY, f"{self._path}: {error.strerror}")
            return
        self._events.clear_problem(AWAY)
        self._offset += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        told = map(read_payload, lines)
        self._queue.put(*(TriggerPulse(one.part_id, flag=one.flag) for one in told))
