"""Run ingest: one thread hears messages into a bounded queue, one works through them and through its duties.

A full queue drops messages and counts them: they are hints, and the sweep finds what they would have said.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fleet_contracts import ContractError
from flows.errors import DatabaseAway, FlowsError, StoreAway
from flows.ingest.desk import Desk
from flows.ingest.link import CloudLink
from flows.settings import FILE_NAME

log = logging.getLogger("whetstone.flows")

QUEUE_LIMIT = 5000
LONGEST_WAIT = 0.5
AWAY_PAUSE = 2.0
"""Seconds a duty waits before it is tried again when store or database are away."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Say what is done again and again: name for the log, pause in seconds, and the work itself."""

    name: str
    every: float
    work: Callable[[Desk], None]


class IngestService:
    """Work through messages and duties until told to stop.

    Args:
        desk: what acts on messages.
        link: how boxes are heard.
        duties: what is done periodically; each runs once at the start.
    """

    def __init__(self, desk: Desk, link: CloudLink, duties: tuple[Duty, ...]) -> None:
        self.desk = desk
        self._link = link
        self._duties = duties
        self._due = dict.fromkeys((duty.name for duty in duties), 0.0)
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue(QUEUE_LIMIT)
        self._settings_seen = self._settings_stamp()

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set; what is in the queue then is dropped, as a lost message would be."""
        self._link.start(self._hear)
        try:
            while not stop.is_set():
                self._reread_settings()
                self._run_duties(stop)
                self._work_off(stop)
        finally:
            self._link.stop()

    def _hear(self, topic: str, payload: bytes) -> None:
        try:
            self._messages.put_nowait((topic, payload))
        except queue.Full:
            self.desk.counts["dropped.queue_full"] += 1

    def _work_off(self, stop: threading.Event) -> None:
        wait = max(0.0, min([LONGEST_WAIT, *(due - time.monotonic() for due in self._due.values())]))
        try:
            topic, payload = self._messages.get(timeout=wait) if wait else self._messages.get_nowait()
        except queue.Empty:
            return
        self._guard(f"message {topic}", partial(self.desk.handle, topic, payload))

    def _run_duties(self, stop: threading.Event) -> None:
        for duty in self._duties:
            if stop.is_set() or time.monotonic() < self._due[duty.name]:
                continue
            went_well = self._guard(duty.name, partial(duty.work, self.desk))
            pause = duty.every if went_well else min(duty.every, AWAY_PAUSE)
            self._due[duty.name] = time.monotonic() + pause

    def _guard(self, what: str, work: Callable[[], None]) -> bool:
        """Run one piece of work; return False when it should be tried again soon."""
        try:
            work()
        except (StoreAway, DatabaseAway) as error:
            self.desk.counts["away"] += 1
            log.warning("ingest.away doing=%s error=%s", what, error)
            return False
        except (ContractError, FlowsError) as error:
            self.desk.counts["refused"] += 1
            log.warning("ingest.refused doing=%s error=%s", what, error)
        except Exception:  # the worker's outer edge: one bad message must not end ingest for all
            self.desk.counts["failed"] += 1
            log.exception("ingest.failed doing=%s", what)
        return True

    def _reread_settings(self) -> None:
        stamp = self._settings_stamp()
        if stamp != self._settings_seen:
            self._settings_seen = stamp
            self._guard("settings", self._take_settings)

    def _take_settings(self) -> None:
        self.desk.ctx = self.desk.ctx.reread()
        log.info("ingest.settings_reread tasks=%s", sorted(self.desk.ctx.settings.tasks))

    def _settings_stamp(self) -> tuple[int, int]:
        try:
            found = (self.desk.ctx.folder / FILE_NAME).stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_ino)
