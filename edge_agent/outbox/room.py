"""Make room for an example by letting less valuable ones go, each for good: no power cut brings it back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_agent.counters import EVICTED, LOST, LOST_VALUE
from edge_agent.outbox.books import Books, Victim
from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.outbox.files import ExampleFiles
from edge_agent.outbox.reserve import Reserve
from edge_agent.outbox.transaction import as_it_was_when_full, is_full

MAX_VICTIMS = 256
"""Rows that may go for one example at most; more are not worth it, whatever they are worth."""
EXAMPLE_BLOCKS = 8192
FULL_DISK_ROOM = 64 * 1024
"""Bytes freed at once on a disk without any room: SQLite needs some even to delete."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Say what was lost after it had been kept: `evicted` for a more valuable one, or `damaged`.

    `value` is what the lost ones were worth together; `counts` is what was stored for them.
    """

    why: str
    examples: int
    value: float
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RoomParts:
    """Hold what room is made of."""

    books: Books
    files: ExampleFiles
    guard: DiskGuard
    reserve: Reserve


class Room:
    """Know how many bytes the examples take, and free some; whoever calls holds the outbox's lock.

    Args:
        parts: of the outbox.
        used: bytes of the examples now.
        on_loss: told of every eviction.
    """

    def __init__(self, parts: RoomParts, used: int, on_loss: Callable[[Loss], None]) -> None:
        self._books, self._files = parts.books, parts.files
        self._guard, self._reserve = parts.guard, parts.reserve
        self.used = used
        self._on_loss = on_loss

    def make(self, wanted: int, value: float) -> None:
        """Raise DiskFull unless `wanted` bytes fit, or can be made to by letting less valuable data go."""
        folder = self._files.folder
        short = self._guard.shortage(folder, used=self.used, wanted=wanted)
        if short is not None and short.others_help and self._guard.clear_others(short.missing):
            short = self._guard.shortage(folder, used=self.used, wanted=wanted)
        # A box that is over its limit already gives up twice what comes in, so that it comes back under it
        # step by step and one valuable example does not cost all the others.
        if short is not None and not self.evict(
            min(short.missing, wanted), min(short.missing, 2 * wanted), value
        ):
            raise short.reason

    def evict(self, needed: int, wished: int, value: float, each: int = 0) -> bool:
        """Let rows worth less than `value` go until `wished` bytes are free.

        Args:
            needed: if not even so many can be freed, none goes and the answer is False.
            wished: at least `needed`.
            value: of the newcomer.
            each: what an example takes of the disk at least.
        """
        victims: list[Victim] = []
        freed = 0
        for victim in self._books.victims(value, MAX_VICTIMS):
            if freed >= wished:
                break
            victims.append(victim)
            freed += max(victim.total_bytes, each)
        if not victims or freed < needed:
            return False
        worth = sum(victim.value for victim in victims)
        counts = {LOST: len(victims), EVICTED: len(victims), LOST_VALUE: round(worth * 1000)}
        self.drop([victim.sample_id for victim in victims], counts)
        self._on_loss(Loss("evicted", len(victims), worth, counts))
        return True

    def drop(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> None:
        """Let examples go, and store `counts` with the decision."""
        freed = self._books.bytes_of(sample_ids)
        # (1) The decision, durable: a cut now only leaves files to clear away.
        is_decided = self._decide(sample_ids, counts)
        # (2) The files, gone for good before (3) the rows that say so. On a full disk the decision found no
        # room, and the files go first: they make it.
        self._files.remove_durably(sample_ids)
        if is_decided:
            self._delete_decided(sample_ids)
        else:
            self.free_database()
            self._books.delete(sample_ids, counts)
        self.used -= freed

    def _delete_decided(self, sample_ids: Sequence[str]) -> None:
        """Delete rows that are leaving; on a full disk the next start does it, for the decision stands."""
        try:
            self._books.delete(sample_ids, {})
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            self.free_database()
            with as_it_was_when_full(self._files.folder):
                self._books.delete(sample_ids, {})

    def free_database(self) -> None:
        """Give the room of the database's log back to a full disk."""
        self._reserve.give_up()
        self._books.fold_log()
        self._reserve.take()

    def _decide(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> bool:
        try:
            self._books.leave(sample_ids, counts)
        except sqlite3.Error as error:
            if is_full(error):
                return False
            raise
        return True
