"""Write the log to stderr, one line per event: name and fields, as text for people or JSON for collectors.

structlog formats what Python's own logging gathers, so records of libraries come out alike. No secret leaves:
credentials in URLs and signed queries are taken out of every value, tracebacks included. A thread of its own
writes, for a pipe whose reader hangs must not hold the loop (law 3); what finds no room is counted.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
import threading
from collections.abc import Mapping, MutableMapping
from datetime import datetime, timezone
from typing import IO, Any, Literal

import structlog

from edge_agent.redaction import HIDDEN, is_secret, redact

LogFormat = Literal["auto", "text", "json"]
FIELDS = "whetstone_fields"
"""Attribute of a log record that holds an event's name and fields."""
MAX_WAITING = 10_000
MAX_DEPTH = 6
CLOSE_WITHIN_S = 1.0
EventDict = MutableMapping[str, Any]


class LogOutput:
    """Be the one handler of the root logger; `close` writes what waits."""

    def __init__(self, level: str, form: LogFormat, stream: IO[str]) -> None:
        writer = logging.StreamHandler(stream)
        writer.setFormatter(formatter(json=form == "json" or (form == "auto" and not stream.isatty())))
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        self._handler = _NeverWaits(self._records)
        self._writer = writer
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()
        root = logging.getLogger()
        root.setLevel(level)
        root.addHandler(self._handler)

    def waiting(self) -> int:
        """Return how many lines are not written yet."""
        return self._records.qsize()

    def close(self) -> None:
        """Write what waits, if its reader takes it within a second or two, and let the root logger go."""
        logging.getLogger().removeHandler(self._handler)
        try:
            self._records.put(None, timeout=CLOSE_WITHIN_S)
        except queue.Full:
            # Nobody reads; the agent ends all the same.
            return
        self._thread.join(CLOSE_WITHIN_S)

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            self._writer.handle(record)


class _NeverWaits(logging.handlers.QueueHandler):
    """Hand records to the writing thread; what finds no room is counted and told with the next that does."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Keep the record whole: it stays within the process, and its fields are wanted."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Queue a record if there is room."""
        if self.dropped:
            record.dropped_before = self.dropped
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
        else:
            self.dropped = 0


def log_to_stderr(level: str, form: LogFormat = "auto") -> LogOutput:
    """Begin to log; `auto` writes text to a terminal and JSON to anything else."""
    return LogOutput(level, form, sys.stderr)


def formatter(*, json: bool) -> logging.Formatter:
    """Return the formatter of every record."""
    renderer = structlog.processors.JSONRenderer(default=str) if json else _as_text
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_add_origin, _add_fields],
        processors=[
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            without_secrets,
            renderer,
        ],
    )


def without_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of every value, however deep; a structlog processor."""
    return {name: _clean(name, value, MAX_DEPTH) for name, value in event.items()}


def _clean(name: str, value: object, depth: int) -> object:
    if isinstance(value, str):
        return HIDDEN if is_secret(name) else redact(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth > 0 and isinstance(value, Mapping):
        return {str(key): _clean(str(key), one, depth - 1) for key, one in value.items()}
    if depth > 0 and isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(name, one, depth - 1) for one in value]
    return redact(str(value))


def _add_origin(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put time, level and logger first, as a reader looks for them there."""
    record: logging.LogRecord = event["_record"]
    first: EventDict = {
        "timestamp": f"{datetime.fromtimestamp(record.created, timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}",
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event"),
    }
    first.update(event)
    return first


def _add_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Spread an event's fields; one that would hide a word of ours gets an underscore."""
    record: logging.LogRecord = event["_record"]
    told = getattr(record, FIELDS, None)
    if told is not None:
        event["event"], fields = told
        for key, value in fields.items():
            event[f"{key}_" if key in event else key] = value
    dropped = getattr(record, "dropped_before", 0)
    if dropped:
        event["lines_dropped_before"] = dropped
    return event


def _as_text(_logger: object, _method: str, event: EventDict) -> str:
    """Write `time LEVEL logger event key=value ...`, a traceback below."""
    words = [str(event.pop(name)) for name in ("timestamp", "level", "logger", "event")]
    words[1] = words[1].upper()
    below = [str(event.pop(name)) for name in ("exception", "stack") if event.get(name)]
    words += [f"{key}={value!r}" if " " in str(value) else f"{key}={value}" for key, value in event.items()]
    return "\n".join((" ".join(words), *below))
