"""Lay out the outbox's database: rows that wait for a receipt, progress through the source, counts.

`progress` names the frames that need not be read again; `kept` those which were kept though their part is
not done, so that an agent killed within a part does not keep and count them a second time.

WAL with synchronous=FULL: a commit that returned survives a power cut (NORMAL may lose the last ones).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from edge_agent.errors import OutboxError
from fleet_contracts.samples import HardExample

SCHEMA_VERSION = 2
UNKNOWN_VALUE = -1.0
"""Of a row made by version 1; the next start reads it from the announcement."""
_TABLES = f"""
CREATE TABLE IF NOT EXISTS rows (
    sample_id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'granted', 'sent', 'leaving')),
    size_bytes INTEGER NOT NULL,
    total_bytes INTEGER NOT NULL,
    added_at TEXT NOT NULL,
    grant_id TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL DEFAULT 0,
    value REAL NOT NULL DEFAULT {UNKNOWN_VALUE}
) STRICT;
CREATE INDEX IF NOT EXISTS rows_by_value ON rows (value DESC, added_at);
CREATE TABLE IF NOT EXISTS progress (
    source TEXT NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (source, token)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (
    camera TEXT NOT NULL,
    part_id TEXT NOT NULL,
    frame_in_part INTEGER NOT NULL,
    sample_id TEXT NOT NULL,
    PRIMARY KEY (camera, part_id, frame_in_part, sample_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
"""
_FROM_1_TO_2 = (
    f"ALTER TABLE rows ADD COLUMN value REAL NOT NULL DEFAULT {UNKNOWN_VALUE}",
    "DROP INDEX IF EXISTS rows_by_due",
)

INSERT_ROW = (
    "INSERT INTO rows (sample_id, state, size_bytes, total_bytes, added_at, value)"
    " VALUES (?, 'waiting', ?, ?, ?, ?)"
)
KEEP_FRAME = "INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?)"
KEPT_BEFORE = (
    "SELECT COUNT(*) FROM kept WHERE camera = ? AND part_id = ? AND frame_in_part = ? AND sample_id = ?"
)
ADD_COUNT = "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"


def place_of(example: HardExample) -> tuple[str, str, int, str]:
    """Return what names an example and the frame it was first seen in."""
    sighting = example.sightings[0]
    return sighting.camera, sighting.part_id, sighting.frame_in_part, example.sample_id


def value_of(example: HardExample) -> float:
    """Return what an example is worth, 0 to 1: its strongest reason's score."""
    return min(1.0, max(0.0, *(reason.score for reason in example.reasons)))


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database, make missing tables, and check that it is whole.

    Raises:
        OutboxError: made by a newer agent.
        sqlite3.DatabaseError: damaged; the caller sets it aside.
    """
    database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        # A megabyte of log instead of four: less to lose on a small disk, hardly more to write.
        database.execute("PRAGMA wal_autocheckpoint=256")
        _migrate(database, _version_of_whole(database, path))
        # Waits are in this process's monotonic time; after a restart everything is due.
        database.execute("UPDATE rows SET next_at = 0, attempts = 0 WHERE next_at != 0 OR attempts != 0")
    except BaseException:
        database.close()
        raise
    return database


def _version_of_whole(database: sqlite3.Connection, path: Path) -> int:
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check found damage")
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise OutboxError(
            expected=f"an outbox of version {SCHEMA_VERSION}",
            got=f"version {version}",
            where=str(path),
            now="Start the newer agent again, or empty the outbox with it.",
        )
    return version


def _migrate(database: sqlite3.Connection, version: int) -> None:
    """Bring the tables to this version in one transaction, so that a cut leaves the old ones or the new."""
    if version == SCHEMA_VERSION:
        return
    steps = [*(_FROM_1_TO_2 if version == 1 else ()), *(one for one in _TABLES.split(";") if one.strip())]
    database.execute("BEGIN IMMEDIATE")
    try:
        for step in steps:
            database.execute(step)
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
