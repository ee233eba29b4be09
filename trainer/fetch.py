"""Fetch a run's inputs by its ticket: resumable, verified, kept in a cache by hash.

A file takes its final name only after its hash was checked, so whatever lies under a final name was whole.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fleet_contracts.base import MAX_DOCUMENT_BYTES
from fleet_contracts.training import TicketObject, TrainTicket
from trainer.cache import ObjectCache, Part, hash_of
from trainer.errors import TransferFailed, WrongContent
from trainer.flow_meter import FlowMeter
from trainer.ticket_desk import TicketDesk
from trainer.wire import Reply, WireDown

T = TypeVar("T")
_log = logging.getLogger("whetstone.trainer")
ATTEMPTS = 8
"""Attempts in a row that may bring nothing new; one that brought bytes counts as progress."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
MAX_MANIFEST_BYTES = 1 << 30


class Fetcher:
    """Fetch objects into a cache; several threads may fetch at once.

    Args:
        desk: hands out URLs.
        cache: keeps objects by hash; a folder is one without other users' bound.
        pause: sleeps between attempts; a test may make it short, and one that raises ends the fetching.
        meter: counts where bytes came from.
    """

    def __init__(
        self,
        desk: TicketDesk,
        cache: ObjectCache | Path,
        pause: Callable[[float], None] = time.sleep,
        meter: FlowMeter | None = None,
    ) -> None:
        self._desk = desk
        self._cache = ObjectCache(cache) if isinstance(cache, Path) else cache
        self._pause = pause
        self.meter = meter or FlowMeter()

    def document(self, url_of: Callable[[TrainTicket], str], name: str) -> bytes:
        """Fetch a document whole; plan and manifest are checked by who asked.

        Raises:
            TransferFailed: not to be had after all attempts.
        """

        def attempt() -> bytes:
            reply = self._desk.get(url_of, name)
            _require_ok(reply, name)
            limit = MAX_MANIFEST_BYTES if name.endswith(".jsonl") else MAX_DOCUMENT_BYTES
            return reply.body(limit)

        return self._persist(attempt, name, lambda: 0)

    def object(self, wanted: TicketObject) -> Path:
        """Fetch an object into the cache, from where an earlier attempt broke off, and return its file.

        The file stays until `release`.

        Raises:
            TransferFailed: not to be had after all attempts.
            WrongContent: whole, but not what the ticket promised, twice.
        """
        found = self._cache.take(wanted.sha256)
        if found is None:
            with self._cache.part(wanted.sha256, wanted.size_bytes, self._pause) as part:
                found = self._cache.take(wanted.sha256)  # another run may have brought it while we waited
                if found is None:
                    return self._bring(wanted, part)
                part.drop()
        self.meter.cached(wanted.size_bytes)
        return found

    def release(self, wanted: TicketObject) -> None:
        """Say that an object's file is not needed any more."""
        self._cache.release(wanted.sha256)

    def _bring(self, wanted: TicketObject, part: Part) -> Path:
        self.meter.cached(min(part.size, wanted.size_bytes))
        try:
            self._persist(lambda: self._download(wanted, part), wanted.name, lambda: part.size)
        except WrongContent:
            part.drop()
            raise
        return self._cache.keep(part, wanted.sha256)

    def _download(self, wanted: TicketObject, part: Part) -> None:
        digest = hash_of(part.path)
        if part.size < wanted.size_bytes or part.size == 0:
            reply = self._desk.get(lambda ticket: _url_in(ticket, wanted), wanted.name, start=part.size)
            _require_ok(reply, wanted.name)
            if reply.status != 206 and part.size:
                # A store that ignores the range starts from zero, and so do we.
                part.clear()
                digest = hash_of(part.path)
            for chunk in reply.chunks:
                _write(part, chunk, wanted)
                digest.update(chunk)
                self.meter.fetched(len(chunk))
                self._pause(0.0)
                if part.size > wanted.size_bytes:
                    break
        if digest.hexdigest() != wanted.sha256:
            size = part.size
            if size < wanted.size_bytes:
                raise WireDown("short answer")
            part.clear()
            raise WrongContent(
                expected=f"{wanted.sha256}", got=f"{digest.hexdigest()} ({size} bytes)", where=wanted.name
            )

    def _persist(self, attempt: Callable[[], T], name: str, progress: Callable[[], int]) -> T:
        """Try again with growing pauses; content that was wrong once gets one more chance, not eight."""
        wrong = idle = 0
        best = progress()
        while True:
            try:
                return attempt()
            except WrongContent:
                wrong += 1
                if wrong > 1:
                    raise
            except (WireDown, TransferFailed) as error:
                best, idle = max(best, progress()), 0 if progress() > best else idle + 1
                _log.warning("trainer.fetch_failed name=%s attempt=%s error=%s", name, idle, error)
                if idle >= ATTEMPTS:
                    raise _gave_up(name, error) from error
            self._pause(min(_FIRST_PAUSE_SECONDS * 2 ** max(idle - 1, 0), _LONGEST_PAUSE_SECONDS))


def _gave_up(name: str, error: Exception) -> TransferFailed:
    return TransferFailed(
        expected=f"the object within {ATTEMPTS} attempts", got=str(error) or type(error).__name__, where=name,
        now="Check that this machine reaches the object store, then start the run again.",
    )  # fmt: skip


def _write(part: Part, chunk: bytes, wanted: TicketObject) -> None:
    try:
        part.append(chunk)
    except OSError as error:
        raise TransferFailed(
            expected=f"{wanted.size_bytes} bytes of disk for {wanted.name}", got=str(error),
            where=str(part.path),
            now="Free space on this disk or give the cache a smaller bound, then start the run again.",
        ) from error  # fmt: skip


def _url_in(ticket: TrainTicket, wanted: TicketObject) -> str | None:
    for candidate in (*ticket.shards, ticket.start_weights):
        if candidate.sha256 == wanted.sha256:
            return candidate.url
    return None


def _require_ok(reply: Reply, name: str) -> None:
    if reply.status not in (200, 206):
        raise TransferFailed(expected="the object", got=f"HTTP {reply.status}", where=name)
