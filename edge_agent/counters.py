"""Count what the box did, in memory for the loop, with the changes handed out to be made durable.

The loop only adds; the outbox's writer takes the changes and stores them in the same transaction as the
progress they belong to, so that a killed agent counts no frame twice.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

INSPECTED = "frames_inspected"
DROPPED = "frames_dropped"
UNREADABLE = "frames_unreadable"
FAULTY = "frames_faulty"
"""Frames that showed a fault of the camera."""
MISSED = "parts_missed"
"""Parts a trigger told of, of which no frame or too few came."""
LOST = "outbox_lost"
"""Hard examples that will not reach the cloud: refused for want of room, evicted, or damaged."""
EVICTED = "outbox_evicted"
"""Those among the lost that were kept and went for a more valuable one."""
DAMAGED = "outbox_damaged"
"""Those among the lost whose files were damaged or gone."""
LOST_VALUE = "outbox_lost_value_milli"
"""What the lost ones were worth together, in thousandths; a damaged one's value is not known."""
RECEIPTS = "receipts"
UPLOADED_BYTES = "uploaded_bytes"
"""Of images and announcements the store has taken; what is put again counts again."""
PART = "part."
"""Prefix of the counts of parts by verdict."""
OUTPUT = "output."
"""Prefix of the counts of every output, `<name>.fired`, `missed`, `held`, `merged`."""
KEPT = "kept."
"""Prefix of the counts of examples by the reason they were kept for."""


class Counters:
    """Hold counts since the outbox was made."""

    def __init__(self, stored: Mapping[str, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter(dict(stored or {}))
        self._before = dict(self._totals)
        self._changes: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> None:
        """Count something whose storing need not be tied to anything else."""
        with self._lock:
            self._totals[name] += count
            self._changes[name] += count

    def add_stored(self, changes: Mapping[str, int]) -> None:
        """Count what is already durable."""
        with self._lock:
            self._totals.update(changes)

    def take_changes(self) -> dict[str, int]:
        """Return what was counted since the last call, to be stored."""
        with self._lock:
            changes, self._changes = self._changes, Counter()
        return dict(changes)

    def give_back(self, changes: Mapping[str, int]) -> None:
        """Return changes that could not be stored."""
        with self._lock:
            self._changes.update(changes)

    def value(self, name: str) -> int:
        """Return one count."""
        with self._lock:
            return self._totals[name]

    def since_start(self) -> dict[str, int]:
        """Return what this process has counted, all of one moment.

        A killed agent loses the counts of its last seconds. A monitor takes a count that went back for a new
        one and adds all of it, so it gets counts that begin at 0 with the process.
        """
        with self._lock:
            return {name: count - self._before.get(name, 0) for name, count in self._totals.items()}

    def with_prefix(self, prefix: str) -> dict[str, int]:
        """Return the counts under a prefix, the prefix cut off."""
        with self._lock:
            return {
                name[len(prefix) :]: count for name, count in self._totals.items() if name.startswith(prefix)
            }
