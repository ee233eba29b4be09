"""Let every part of the agent tell what happened: counted, logged, and standing problems kept for reports.

Event names are dotted constants with fields, no sentences. A problem has a name and stands until the part
that raised it clears it; the next device report carries all that stand.

    >>> events = Events()
    >>> events.note("outbox.kept", sample="e3b0")
    >>> events.count("outbox.kept")
    1
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from edge_agent.redaction import redact

logger = logging.getLogger("whetstone.edge")
Listener = Callable[[str, Mapping[str, object]], None]


class Events:
    """Count and log events, pass them to listeners, and hold the problems that stand."""

    def __init__(self, listeners: tuple[Listener, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._problems: dict[str, str] = {}
        self._listeners = listeners

    def note(self, name: str, /, **fields: object) -> None:
        """Tell that something happened; fields must never hold a secret or a presigned URL."""
        with self._lock:
            self._counts[name] += 1
        # Name and fields once more, for a formatter that can keep them apart.
        logger.info("%s %s", name, fields, extra={"whetstone_fields": (name, fields)})
        for listener in self._listeners:
            listener(name, fields)

    def count(self, name: str) -> int:
        """Return how often an event was told since the process began."""
        with self._lock:
            return self._counts[name]

    def counts(self) -> dict[str, int]:
        """Return how often every event was told since the process began."""
        with self._lock:
            return dict(self._counts)

    def set_problem(self, name: str, text: str) -> None:
        """Let a problem stand, without the secrets in its text; logged only when it is new or has changed."""
        # It leaves the box in reports, and not only by the log, which looks after itself.
        text = redact(text)
        with self._lock:
            known = self._problems.get(name)
            self._problems[name] = text
        if known != text:
            told = (name, {"problem": text})
            logger.warning("%s %s", name, text, extra={"whetstone_fields": told})

    def clear_problem(self, name: str) -> None:
        """End a problem; nothing happens when it does not stand."""
        with self._lock:
            known = self._problems.pop(name, None)
        if known is not None:
            told = (name, {"over": True})
            logger.info("%s is over", name, extra={"whetstone_fields": told})

    def problems(self) -> dict[str, str]:
        """Return the problems that stand, by name."""
        with self._lock:
            return dict(self._problems)
