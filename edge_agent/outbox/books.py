"""Say in SQL what the outbox does; whoever calls holds the outbox's lock and turns errors into our words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from edge_agent.outbox.schema import ADD_COUNT, INSERT_ROW, KEEP_FRAME, KEPT_BEFORE, place_of, value_of
from edge_agent.outbox.transaction import Transaction
from fleet_contracts.samples import HardExample

ANNOUNCED_AGAIN = 2
"""How often a row that was put is announced again before it is asked for again."""
_TO_ANNOUNCE = f"state = 'sent' AND grant_id != '' AND attempts < {ANNOUNCED_AGAIN}"


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """Hold an example that is due to be asked for, or announced again when it is `sent`."""

    sample_id: str
    size_bytes: int
    state: str
    attempts: int
    value: float = 0.0
    grant_id: str = ""


@dataclass(frozen=True, slots=True)
class Victim:
    """Hold a row that may go for a more valuable one."""

    sample_id: str
    total_bytes: int
    value: float


class PartKey(NamedTuple):
    """Name a part as its sightings do."""

    camera: str
    part_id: str


class Books:
    """Keep rows, progress and counts in an open database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def insert(self, example: HardExample, sizes: tuple[int, int], counts: Mapping[str, int]) -> None:
        """Add a row with image bytes and total bytes, the counts it stands for, and its frame."""
        added_at = example.sightings[0].captured_at.isoformat()
        with Transaction(self._database):
            self._database.execute(INSERT_ROW, (example.sample_id, *sizes, added_at, value_of(example)))
            self._add_counts(counts)
            self._database.execute(KEEP_FRAME, place_of(example))

    def see_again(self, sample_id: str, value: float) -> None:
        """Let a row be uploaded again, worth what the more valuable of its sightings is."""
        self.change(
            "state = 'waiting', next_at = 0, attempts = 0, value = MAX(value, ?)", (value,), [sample_id]
        )

    def change(self, change: str, values: tuple[object, ...], sample_ids: Sequence[str]) -> None:
        """Change rows that are not leaving."""
        if not sample_ids:
            return
        with Transaction(self._database):
            self._set(change, values, sample_ids)

    def leave(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> None:
        """Decide that rows go; whatever happens now, the next start finishes it."""
        with Transaction(self._database):
            self._set("state = 'leaving', next_at = 1e300", (), sample_ids)
            self._add_counts(counts)

    def delete(self, sample_ids: Sequence[str], counts: Mapping[str, int]) -> None:
        """Delete rows."""
        with Transaction(self._database):
            self._database.executemany("DELETE FROM rows WHERE sample_id = ?", [(one,) for one in sample_ids])
            self._add_counts(counts)

    def fold_log(self) -> None:
        """Bring the log's content into the database and give its room back to the disk, if there is any."""
        with suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def note_progress(
        self, source: str, tokens: Sequence[str], counts: Mapping[str, int], parts: Sequence[PartKey]
    ) -> None:
        """Add progress and counts, and forget which frames of finished parts were kept."""
        with Transaction(self._database):
            self._database.executemany(
                "INSERT OR IGNORE INTO progress VALUES (?, ?)", [(source, one) for one in tokens]
            )
            self._database.executemany("DELETE FROM kept WHERE camera = ? AND part_id = ?", parts)
            self._add_counts(counts)

    def forget_progress(self, source: str, tokens: Sequence[str]) -> None:
        """Delete progress."""
        with Transaction(self._database):
            self._database.executemany(
                "DELETE FROM progress WHERE source = ? AND token = ?", [(source, token) for token in tokens]
            )

    # Reading.

    def due(self, now: float, limit: int, at_least: float) -> list[WaitingRow]:
        """Return rows to ask for whose wait is over, the most valuable first, then the oldest."""
        return self._rows(f"NOT ({_TO_ANNOUNCE}) AND value >= ?", (now, at_least, limit))

    def unanswered(self, now: float, limit: int) -> list[WaitingRow]:
        """Return rows that were put and are to be announced again, in the same order."""
        return self._rows(_TO_ANNOUNCE, (now, limit))

    def _rows(self, condition: str, values: tuple[object, ...]) -> list[WaitingRow]:
        found = self._database.execute(
            "SELECT sample_id, size_bytes, state, attempts, value, grant_id FROM rows"  # noqa: S608 - our own text
            f" INDEXED BY rows_by_value WHERE next_at <= ? AND {condition}"
            " ORDER BY value DESC, added_at LIMIT ?",
            values,
        ).fetchall()
        return [WaitingRow(*row) for row in found]

    def victims(self, below: float, limit: int) -> Iterator[Victim]:
        """Give rows worth less than `below` in the order they go: the least valuable, then the oldest.

        Rows that only wait for their receipt come last, since the cloud may have them already.
        """
        found = self._database.execute(
            "SELECT sample_id, total_bytes, value FROM rows WHERE value < ? AND state != 'leaving'"
            " ORDER BY state = 'sent', value, added_at LIMIT ?",
            (below, limit),
        )
        for row in found.fetchall():
            yield Victim(*row)

    def kept_before(self, example: HardExample) -> bool:
        """Tell whether this frame was kept and its part is not done."""
        return self.one(KEPT_BEFORE, *place_of(example)) > 0

    def has_row(self, sample_id: str) -> bool:
        """Tell whether there is a row, leaving or not."""
        return self.one("SELECT COUNT(*) FROM rows WHERE sample_id = ?", sample_id) > 0

    def is_waiting(self, sample_id: str) -> bool:
        """Tell whether there is a row that is not leaving."""
        query = "SELECT COUNT(*) FROM rows WHERE sample_id = ? AND state != 'leaving'"
        return self.one(query, sample_id) > 0

    def bytes_of(self, sample_ids: Sequence[str]) -> int:
        """Return the bytes of the files of rows."""
        return sum(self.one("SELECT total_bytes FROM rows WHERE sample_id = ?", one) for one in sample_ids)

    def one(self, query: str, *values: object) -> int:
        """Return the only number of a query's only row."""
        return int(self._database.execute(query, values).fetchone()[0])

    def pairs(self, query: str, *values: object) -> dict[str, int]:
        """Return a query's rows of name and number."""
        return {str(name): int(number) for name, number in self._database.execute(query, values).fetchall()}

    def _set(self, change: str, values: tuple[object, ...], sample_ids: Sequence[str]) -> None:
        self._database.executemany(
            f"UPDATE rows SET {change} WHERE sample_id = ? AND state != 'leaving'",  # noqa: S608 - our own text
            [(*values, sample_id) for sample_id in sample_ids],
        )

    def _add_counts(self, counts: Mapping[str, int]) -> None:
        self._database.executemany(ADD_COUNT, [(name, count) for name, count in counts.items() if count])
