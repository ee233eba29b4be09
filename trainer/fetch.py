"""Fetch a run's inputs by its ticket: resumable, verified, kept in a cache by hash.

A file takes its final name only after its hash was checked, so whatever lies under a final name is whole.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fleet_contracts.base import MAX_DOCUMENT_BYTES
from fleet_contracts.training import TicketObject, TrainTicket
from trainer.errors import TransferFailed, WrongContent
from trainer.ticket_desk import TicketDesk
from trainer.wire import Reply, WireDown

T = TypeVar("T")
_log = logging.getLogger("whetstone.trainer")
ATTEMPTS = 8
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
MAX_MANIFEST_BYTES = 1 << 30


class Fetcher:
    """Fetch objects into a cache folder.

    Args:
        desk: hands out URLs.
        cache: folder for objects by hash; may be shared by runs.
        pause: sleeps between attempts; a test may make it short.
    """

    def __init__(self, desk: TicketDesk, cache: Path, pause: Callable[[float], None] = time.sleep) -> None:
        self._desk = desk
        self._cache = cache
        self._pause = pause
        cache.mkdir(parents=True, exist_ok=True)

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

        return self._persist(attempt, name)

    def object(self, wanted: TicketObject) -> Path:
        """Fetch an object into the cache, from where an earlier attempt broke off, and return its file.

        Raises:
            TransferFailed: not to be had after all attempts.
            WrongContent: whole, but not what the ticket promised, twice.
        """
        final = self._cache / wanted.sha256
        if final.is_file():
            return final
        part = final.with_suffix(".part")
        self._persist(lambda: self._download(wanted, part), wanted.name)
        part.replace(final)
        return final

    def _download(self, wanted: TicketObject, part: Path) -> None:
        have = part.stat().st_size if part.is_file() else 0
        if have < wanted.size_bytes or have == 0:
            reply = self._desk.get(lambda ticket: _url_in(ticket, wanted), wanted.name, start=have)
            _require_ok(reply, wanted.name)
            # A store that ignores the range starts from zero, and so do we.
            with part.open("ab" if reply.status == 206 else "wb") as stream:
                for chunk in reply.chunks:
                    stream.write(chunk)
                    if stream.tell() > wanted.size_bytes:
                        break
        digest = _sha256(part)
        if digest != wanted.sha256:
            size = part.stat().st_size
            if size >= wanted.size_bytes:
                part.unlink()
                raise WrongContent(
                    expected=f"{wanted.sha256}", got=f"{digest} ({size} bytes)", where=wanted.name
                )
            raise WireDown("short answer")

    def _persist(self, attempt: Callable[[], T], name: str) -> T:
        """Try again with growing pauses; content that was wrong once gets one more chance, not eight."""
        wrong = 0
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except WrongContent:
                wrong += 1
                if wrong > 1:
                    raise
            except (WireDown, TransferFailed) as error:
                _log.warning("trainer.fetch_failed name=%s attempt=%s error=%s", name, number + 1, error)
                if number + 1 == ATTEMPTS:
                    raise _gave_up(name, error) from error
            self._pause(min(_FIRST_PAUSE_SECONDS * 2**number, _LONGEST_PAUSE_SECONDS))
        raise AssertionError("the last attempt returns or raises")


def _gave_up(name: str, error: Exception) -> TransferFailed:
    return TransferFailed(
        expected=f"the object within {ATTEMPTS} attempts", got=str(error) or type(error).__name__, where=name,
        now="Check that this machine reaches the object store, then start the run again.",
    )  # fmt: skip


def _url_in(ticket: TrainTicket, wanted: TicketObject) -> str | None:
    for candidate in (*ticket.shards, ticket.start_weights):
        if candidate.sha256 == wanted.sha256:
            return candidate.url
    return None


def _require_ok(reply: Reply, name: str) -> None:
    if reply.status not in (200, 206):
        raise TransferFailed(expected="the object", got=f"HTTP {reply.status}", where=name)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
