"""Be the durable outbox: SQLite rows, and beside them each image with its announcement.

    waiting -> granted -> sent -> (receipt) -> gone

A row leaves on a receipt alone; a 200 of the store or a PUBACK of the broker proves nothing. The files are
written and fsynced before the row; a cut between the two leaves files without a row, which the next start
takes in. A row is marked as leaving before its files go, so that a cut there brings nothing back.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_agent.outbox.disk_guard import DiskGuard
from edge_agent.outbox.files import ExampleFiles
from edge_agent.outbox.recovery import is_in_memory, open_or_rebuild
from edge_agent.outbox.schema import ADD_COUNT, INSERT_ROW, KEEP_FRAME, KEPT_BEFORE, place_of
from edge_agent.outbox.transaction import Transaction, database_error, disk_error, is_full
from fleet_contracts.samples import HardExample


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """Hold an example that is due to be asked for."""

    sample_id: str
    size_bytes: int
    state: str
    attempts: int


class PartKey(NamedTuple):
    """Name a part as its sightings do."""

    camera: str
    part_id: str


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
        self._guard = guard
        self._clock = clock
        self._lock = threading.RLock()
        self._files = ExampleFiles(folder / "examples")
        self._database, self.recovered = open_or_rebuild(folder, self._files, guard.probe)
        """`recovered`: examples that were taken in from files without a row."""
        self.in_memory = is_in_memory(self._database)
        """Whether progress and counts end with the process, since the disk was full at the start."""
        self._used = self._one("SELECT COALESCE(SUM(total_bytes), 0) FROM rows")

    # Writing.

    def add(self, image: bytes, example: HardExample, counts: Mapping[str, int]) -> bool:
        """Keep an example durably; return whether it is new, and store `counts` only then.

        The same bytes seen again add their sighting to the example that is already here; a frame that was
        kept and is inspected again after a restart is passed over.

        Raises:
            DiskFull: nothing was kept.
            OutboxError: the database or the files could not be written; nothing was kept.
        """
        with self._lock:
            try:
                if self._one(KEPT_BEFORE, *place_of(example)):
                    return False
                if self._has_row(example.sample_id):
                    self._add_sighting(example)
                    return False
                # (1) Room for both files, before a byte is written.
                wanted = len(image) + self._files.announcement_bytes(example)
                self._guard.require_room(self._files.folder, used=self._used, wanted=wanted)
                # (2) Image and announcement, fsynced; without a row they are an example all the same.
                total = self._files.write(image, example)
                # (3) The row, with the counts it stands for.
                self._insert(example, (len(image), total), counts)
            except OSError as error:
                raise disk_error(error, self._files.folder) from error
            except sqlite3.Error as error:
                raise database_error(error, self._files.folder) from error
            self._used += total
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
        with self._lock:
            try:
                with Transaction(self._database):
                    self._database.executemany(
                        "INSERT OR IGNORE INTO progress VALUES (?, ?)", [(source, one) for one in tokens]
                    )
                    self._database.executemany("DELETE FROM kept WHERE camera = ? AND part_id = ?", parts)
                    self._store_counts(counts)
            except sqlite3.Error as error:
                raise database_error(error, self._files.folder) from error

    def forget_progress(self, source: str, tokens: Iterable[str]) -> None:
        """Let progress go that nothing will ask for again."""
        with self._lock, Transaction(self._database):
            self._database.executemany(
                "DELETE FROM progress WHERE source = ? AND token = ?", [(source, token) for token in tokens]
            )

    # Uploading.

    def due(self, limit: int) -> list[WaitingRow]:
        """Return the rows whose wait is over, oldest first."""
        with self._lock:
            found = self._database.execute(
                "SELECT sample_id, size_bytes, state, attempts FROM rows WHERE next_at <= ?"
                " ORDER BY added_at LIMIT ?",
                (self._clock(), limit),
            ).fetchall()
        return [WaitingRow(*row) for row in found]

    def postpone(self, sample_ids: Sequence[str], wait_s: float) -> None:
        """Count an attempt and let the rows wait."""
        self._update("next_at = ?, attempts = attempts + 1", (self._clock() + wait_s,), sample_ids)

    def mark_granted(self, sample_ids: Sequence[str], grant_id: str) -> None:
        """Remember the grant under which the rows are being uploaded."""
        self._update("state = 'granted', grant_id = ?", (grant_id,), sample_ids)

    def mark_sent(self, sample_ids: Sequence[str], wait_s: float) -> None:
        """Remember that image and announcement were put; asked again after `wait_s` without a receipt."""
        self._update("state = 'sent', next_at = ?", (self._clock() + wait_s,), sample_ids)

    def read(self, sample_id: str) -> tuple[bytes, bytes] | None:
        """Return an example's image and announcement, or None when it is not here."""
        return self._files.read(sample_id)

    def forget(self, sample_ids: Sequence[str], counts: Callable[[int], Mapping[str, int]]) -> int:
        """Delete rows and files for which there is a receipt; return how many were here.

        Args:
            sample_ids: ids that are not here are passed over, since receipts may come twice.
            counts: from the number of rows deleted, what is stored in the same transaction.

        Raises:
            DiskFull: the rows stay, and go with a later receipt.
            OutboxError: likewise.
        """
        with self._lock:
            here = [sample_id for sample_id in sample_ids if self._is_waiting(sample_id)]
            if not here:
                return 0
            freed = sum(self._one("SELECT total_bytes FROM rows WHERE sample_id = ?", one) for one in here)
            if self._decide_to_forget(here, counts(len(here))):
                # (2) The files, then (3) the rows.
                self._remove_files(here)
                self._delete_rows(here, {})
            else:
                # On a full disk the files must go first: they make the room to write the decision in.
                self._remove_files(here)
                self._delete_rows(here, counts(len(here)))
            self._used -= freed
            return len(here)

    # Reading.

    def waiting(self) -> int:
        """Return how many examples have no receipt yet."""
        return self._one("SELECT COUNT(*) FROM rows WHERE state != 'leaving'")

    def states(self) -> dict[str, int]:
        """Return how many rows are in each state."""
        with self._lock:
            return dict(self._database.execute("SELECT state, COUNT(*) FROM rows GROUP BY state").fetchall())

    def progress(self, source: str) -> set[str]:
        """Return the tokens of a source's frames that need not be read again."""
        with self._lock:
            found = self._database.execute("SELECT token FROM progress WHERE source = ?", (source,))
            return {str(row[0]) for row in found.fetchall()}

    def stored_counts(self) -> dict[str, int]:
        """Return every count since the outbox was made."""
        with self._lock:
            return {
                str(name): int(value)
                for name, value in self._database.execute("SELECT name, value FROM counts").fetchall()
            }

    def close(self) -> None:
        """Close the database; what was committed is durable. A disk that hangs is not waited for."""
        if self._lock.acquire(timeout=0.5):
            self._database.close()
            self._lock.release()

    # Details.

    def _insert(self, example: HardExample, sizes: tuple[int, int], counts: Mapping[str, int]) -> None:
        """Add the row of written files, which are taken away again if there is no room for it."""
        added_at = example.sightings[0].captured_at.isoformat()
        try:
            with Transaction(self._database):
                self._database.execute(INSERT_ROW, (example.sample_id, *sizes, added_at))
                self._store_counts(counts)
                self._database.execute(KEEP_FRAME, place_of(example))
        except sqlite3.Error:
            self._files.remove(example.sample_id)
            raise

    def _add_sighting(self, example: HardExample) -> None:
        if self._files.add_sightings(example):
            self._update("state = 'waiting', next_at = 0", (), [example.sample_id])

    def _store_counts(self, counts: Mapping[str, int]) -> None:
        self._database.executemany(ADD_COUNT, [(name, count) for name, count in counts.items() if count])

    def _decide_to_forget(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> bool:
        """(1) Make the decision durable: a cut only leaves files to clear away. False on a full disk."""
        try:
            with Transaction(self._database):
                self._set("state = 'leaving', next_at = 1e300", (), sample_ids)
                self._store_counts(counts)
        except sqlite3.Error as error:
            if is_full(error):
                return False
            raise database_error(error, self._files.folder) from error
        return True

    def _remove_files(self, sample_ids: Sequence[str]) -> None:
        for sample_id in sample_ids:
            self._files.remove(sample_id)

    def _delete_rows(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> None:
        try:
            with Transaction(self._database):
                self._database.executemany(
                    "DELETE FROM rows WHERE sample_id = ?", [(one,) for one in sample_ids]
                )
                self._store_counts(counts)
        except sqlite3.Error as error:
            raise database_error(error, self._files.folder) from error

    def _update(self, change: str, values: tuple[object, ...], sample_ids: Sequence[str]) -> None:
        """Change rows; on a full disk they stay as they are, since what is asked twice is answered twice."""
        try:
            with self._lock, Transaction(self._database):
                self._set(change, values, sample_ids)
        except sqlite3.Error as error:
            if not is_full(error):
                raise database_error(error, self._files.folder) from error

    def _set(self, change: str, values: tuple[object, ...], sample_ids: Sequence[str]) -> None:
        self._database.executemany(
            f"UPDATE rows SET {change} WHERE sample_id = ? AND state != 'leaving'",  # noqa: S608 - our own text
            [(*values, sample_id) for sample_id in sample_ids],
        )

    def _is_waiting(self, sample_id: str) -> bool:
        query = "SELECT COUNT(*) FROM rows WHERE sample_id = ? AND state != 'leaving'"
        return self._one(query, sample_id) > 0

    def _has_row(self, sample_id: str) -> bool:
        return self._one("SELECT COUNT(*) FROM rows WHERE sample_id = ?", sample_id) > 0

    def _one(self, query: str, *values: object) -> int:
        with self._lock:
            return int(self._database.execute(query, values).fetchone()[0])
