"""Be the durable outbox: SQLite rows, and beside them each image with its announcement.

    waiting -> granted -> sent -> (receipt) -> gone
       any of them -> evicted, when there is no room and a more valuable example comes: a counted loss

A row leaves on a receipt alone; a 200 of the store or a PUBACK of the broker proves nothing. The files are
written and fsynced before the row; a cut between the two leaves files without a row, which the next start
takes in. A row is marked as leaving before its files go, so that a cut there brings nothing back.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from edge_agent.counters import DAMAGED, LOST
from edge_agent.errors import DiskFull
from edge_agent.outbox.books import Books, PartKey, WaitingRow
from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.outbox.files import ExampleDamaged, ExampleFiles
from edge_agent.outbox.recovery import is_in_memory, open_or_rebuild
from edge_agent.outbox.reserve import Reserve
from edge_agent.outbox.room import EXAMPLE_BLOCKS, FULL_DISK_ROOM, Loss, Room, RoomParts
from edge_agent.outbox.schema import value_of
from edge_agent.outbox.transaction import as_it_was_when_full, in_our_words, is_full
from fleet_contracts.samples import HardExample

MAX_TRIES = 4
"""How often an example is written while a full disk is made emptier."""


class Outbox:
    """Keep examples until their receipt; safe to call from several threads.

    Args:
        folder: made when it is missing.
        guard: limits on what may be kept.
        clock: seconds that only go forward, for the waits between attempts.

    Raises:
        OutboxError: the folder cannot be used.
    """

    def __init__(self, folder: Path, guard: DiskGuard, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._files = ExampleFiles(folder / "examples")
        self._database, self.recovered = open_or_rebuild(folder, self._files, guard.probe)
        """`recovered`: examples that were taken in from files without a row."""
        self._books = Books(self._database)
        self.in_memory = is_in_memory(self._database)
        """Whether progress and counts end with the process, since the disk was full at the start."""
        self.on_loss: Callable[[Loss], None] = lambda _: None
        """Told of every loss among what was kept, on the thread that found it."""
        reserve = Reserve(folder / "reserve")
        if not self.in_memory:
            reserve.take()
        used = self._books.one("SELECT COALESCE(SUM(total_bytes), 0) FROM rows")
        parts = RoomParts(self._books, self._files, guard, reserve)
        self._room = Room(parts, used, lambda loss: self.on_loss(loss))  # noqa: PLW0108 - it is set later

    # Writing.

    def add(self, image: bytes, example: HardExample, counts: Mapping[str, int]) -> bool:
        """Keep an example durably; return whether it is new, and store `counts` only then.

        The same bytes seen again add their sighting to the example that is already here; a frame that was
        kept and is inspected again after a restart is passed over. Without room, less valuable examples go.

        Raises:
            DiskFull: nothing was kept, and nothing less valuable could make the room.
            OutboxError: the database or the files could not be written; nothing was kept.
        """
        with self._lock, in_our_words(self._files.folder):
            if self._books.kept_before(example):
                return False
            if self._books.has_row(example.sample_id):
                self._see_again(example)
                return False
            value = value_of(example)
            # (1) Room for both files, before a byte is written.
            wanted = len(image) + self._files.announcement_bytes(example)
            self._room.make(wanted, value)
            try:
                total = self._keep(image, example, counts)
            except DiskFull as full:
                total = self._keep_on_full_disk(image, example, counts, full)
            self._room.used += total
            return True

    def mark_done(
        self, source: str, tokens: Sequence[str], counts: Mapping[str, int], parts: Sequence[PartKey] = ()
    ) -> None:
        """Store progress through a source and the counts that belong to it, in one transaction.

        Args:
            source: the configured source the tokens belong to.
            tokens: of the frames that need not be read again.
            counts: what these frames stand for.
            parts: that are finished, so that none of their frames can come again.

        Raises:
            DiskFull: nothing was stored; the same may be tried again.
            OutboxError: likewise.
        """
        with self._lock, in_our_words(self._files.folder):
            try:
                self._books.note_progress(source, tokens, counts, parts)
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                self._room.free_database()
                self._books.note_progress(source, tokens, counts, parts)

    def forget_progress(self, source: str, tokens: Iterable[str]) -> None:
        """Let progress go that nothing will ask for again."""
        with self._lock:
            self._books.forget_progress(source, tuple(tokens))

    # Uploading.

    def due(self, limit: int, at_least: float = 0.0) -> list[WaitingRow]:
        """Return rows to ask for which are worth `at_least`: the most valuable first, then the oldest."""
        with self._lock:
            return self._books.due(self._clock(), limit, at_least)

    def unanswered(self, limit: int) -> list[WaitingRow]:
        """Return rows that were put and whose receipt is overdue, so that they are announced again."""
        with self._lock:
            return self._books.unanswered(self._clock(), limit)

    def postpone(self, sample_ids: Sequence[str], wait_s: float) -> None:
        """Count an attempt and let the rows wait."""
        self._update("next_at = ?, attempts = attempts + 1", (self._clock() + wait_s,), sample_ids)

    def mark_granted(self, sample_ids: Sequence[str], grant_id: str) -> None:
        """Remember the grant under which the rows are being uploaded."""
        self._update("state = 'granted', grant_id = ?", (grant_id,), sample_ids)

    def mark_sent(self, sample_ids: Sequence[str], wait_s: float) -> None:
        """Remember that image and announcement were put; due again after `wait_s` without a receipt."""
        self._update("state = 'sent', attempts = 0, next_at = ?", (self._clock() + wait_s,), sample_ids)

    def read(self, sample_id: str) -> tuple[bytes, bytes] | None:
        """Return an example's image and announcement, or None when it is not here.

        What is damaged, or gone though it waits for its receipt, is set aside and counted as lost.
        """
        try:
            found = self._files.read(sample_id)
        except ExampleDamaged:
            found = None
        if found is not None:
            return found
        with self._lock:
            if self._books.is_waiting(sample_id):
                return self._read_again(sample_id)
        return None

    def forget(self, sample_ids: Sequence[str], counts: Callable[[int], Mapping[str, int]]) -> int:
        """Delete rows and files for which there is a receipt; return how many were here.

        Args:
            sample_ids: ids that are not here are passed over, since receipts may come twice.
            counts: from the number of rows deleted, what is stored in the same transaction.

        Raises:
            DiskFull: the rows stay, and go with a later receipt.
            OutboxError: likewise.
        """
        with self._lock, in_our_words(self._files.folder):
            here = [sample_id for sample_id in dict.fromkeys(sample_ids) if self._books.is_waiting(sample_id)]
            if here:
                self._room.drop(here, counts(len(here)))
            return len(here)

    # Reading.

    def waiting(self) -> int:
        """Return how many examples have no receipt yet."""
        with self._lock:
            return self._books.one("SELECT COUNT(*) FROM rows WHERE state != 'leaving'")

    def waiting_bytes(self) -> int:
        """Return the bytes of all that waits."""
        with self._lock:
            return self._room.used

    def states(self) -> dict[str, int]:
        """Return how many rows are in each state."""
        with self._lock:
            return self._books.pairs("SELECT state, COUNT(*) FROM rows GROUP BY state")

    def progress(self, source: str) -> set[str]:
        """Return the tokens of a source's frames that need not be read again."""
        with self._lock:
            found = self._database.execute("SELECT token FROM progress WHERE source = ?", (source,))
            return {str(row[0]) for row in found.fetchall()}

    def stored_counts(self) -> dict[str, int]:
        """Return every count since the outbox was made."""
        with self._lock:
            return self._books.pairs("SELECT name, value FROM counts")

    def close(self) -> None:
        """Close the database; what was committed is durable. A disk that hangs is not waited for."""
        if self._lock.acquire(timeout=0.5):
            self._database.close()
            self._lock.release()

    # Keeping and letting go.

    def _keep(self, image: bytes, example: HardExample, counts: Mapping[str, int]) -> int:
        with in_our_words(self._files.folder):
            # (2) Image and announcement, fsynced; without a row they are an example all the same.
            total = self._files.write(image, example)
            # (3) The row, with the counts it stands for; without room for it the files go again.
            try:
                self._books.insert(example, (len(image), total), counts)
            except sqlite3.Error:
                self._files.remove_durably([example.sample_id])
                raise
        return total

    def _keep_on_full_disk(
        self, image: bytes, example: HardExample, counts: Mapping[str, int], full: DiskFull
    ) -> int:
        """Try again with less around: the disk has less room than it says (blocks, the database's log)."""
        self._room.free_database()
        for _ in range(MAX_TRIES):
            try:
                return self._keep(image, example, counts)
            except DiskFull as still_full:
                full = still_full
            if not self._room.evict(len(image), FULL_DISK_ROOM, value_of(example), EXAMPLE_BLOCKS):
                break
        raise full

    def _see_again(self, example: HardExample) -> None:
        if self._files.add_sightings(example):
            with as_it_was_when_full(self._files.folder):
                self._books.see_again(example.sample_id, value_of(example))

    def _read_again(self, sample_id: str) -> tuple[bytes, bytes] | None:
        """Read under the lock, so that nobody changes the files; what is damaged now is lost."""
        try:
            found = self._files.read(sample_id)
            if found is not None or self._files.exists(sample_id):
                return found
        except ExampleDamaged:
            self._files.set_aside(sample_id)
        counts = {LOST: 1, DAMAGED: 1}
        with in_our_words(self._files.folder):
            self._room.drop([sample_id], counts)
        self.on_loss(Loss("damaged", 1, 0.0, counts))
        return None

    def _update(self, change: str, values: tuple[object, ...], sample_ids: Sequence[str]) -> None:
        with self._lock, as_it_was_when_full(self._files.folder):
            self._books.change(change, values, sample_ids)
