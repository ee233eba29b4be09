"""Open the outbox after anything may have happened to it: kill, power cut, damaged database.

The files are the truth about what is kept; the database adds states, progress and counts. A damaged
database is set aside, never deleted, and made again from the files; a folder source is then read again
from its beginning, which does no harm, since the same bytes are the same sample.

On a full disk SQLite cannot even open its database. The line must be inspected all the same, so a database
in memory stands in until the next start: the examples on the disk are taken in and sent, which makes room.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_agent.counters import DAMAGED, KEPT, LOST
from edge_agent.errors import OutboxError
from edge_agent.files import make_folder, move_aside
from edge_agent.outbox.disk_guard import free_bytes
from edge_agent.outbox.files import MAX_SET_ASIDE, ExampleFiles
from edge_agent.outbox.schema import (
    ADD_COUNT,
    INSERT_ROW,
    KEEP_FRAME,
    UNKNOWN_VALUE,
    open_database,
    place_of,
    value_of,
)
from edge_agent.outbox.transaction import is_full

logger = logging.getLogger("whetstone.edge.outbox")


IN_MEMORY = "in-memory"
"""File that says that examples may have left under a database in memory."""
ROOM_TO_OPEN = 1_000_000
"""Free bytes below which an error of SQLite is blamed on the full disk; its log needs far less."""


def open_or_rebuild(
    folder: Path, files: ExampleFiles, probe: Callable[[Path], int] = free_bytes
) -> tuple[sqlite3.Connection, int]:
    """Return the open database and how many examples were taken in from files without a row.

    Args:
        folder: made when it is missing.
        files: of the examples beside the database.
        probe: tells the free bytes of the folder's disk.

    Raises:
        OutboxError: the folder cannot be used.
    """
    try:
        make_folder(files.folder)
        database = _open(folder, probe)
        return database, _reconcile(database, files)
    except (OSError, sqlite3.Error) as error:
        raise OutboxError(
            expected="a folder for the outbox",
            got=str(error),
            where=str(folder),
            now="Check the disk, its space and the owner of the folder.",
        ) from error


def is_in_memory(database: sqlite3.Connection) -> bool:
    """Tell whether the database ends with the process."""
    return not database.execute("PRAGMA database_list").fetchone()[2]


def _open(folder: Path, probe: Callable[[Path], int]) -> sqlite3.Connection:
    path = folder / "outbox.db"
    try:
        return open_database(path)
    except sqlite3.OperationalError as error:
        # Locked or read-only: nothing is wrong with the content, and a person must look at it.
        if not is_full(error) and probe(folder) > ROOM_TO_OPEN:
            raise
        logger.error("outbox.in-memory %s %s", path, error)
        return open_database(Path(":memory:"))
    except sqlite3.DatabaseError as error:
        logger.warning("outbox.damaged %s %s", path, error)
        for name in ("outbox.db", "outbox.db-wal", "outbox.db-shm"):
            if (folder / name).exists():
                move_aside(folder / name, folder / "damaged", keep=MAX_SET_ASIDE)
        return open_database(path)


def _reconcile(database: sqlite3.Connection, files: ExampleFiles) -> int:
    """Make rows and files agree: files without a row are taken in, rows without files are let go.

    Rows that were leaving when the agent ended go first, with what is left of their files.
    """
    _finish_leaving(database, files)
    rows = {str(row[0]) for row in database.execute("SELECT sample_id FROM rows").fetchall()}
    on_disk = files.ids()
    mark = files.folder.parent / IN_MEMORY
    left_in_memory = mark.exists()
    damaged: list[str] = []
    database.execute("BEGIN IMMEDIATE")
    for sample_id in rows - on_disk:
        database.execute("DELETE FROM rows WHERE sample_id = ?", (sample_id,))
        if not left_in_memory:
            logger.warning("outbox.files-missing %s", sample_id)
            database.execute(ADD_COUNT, (LOST, 1))
    taken_in = 0
    for example, size, total in files.whole_examples(rows & on_disk, damaged.append):
        added_at = example.sightings[0].captured_at.isoformat()
        database.execute(INSERT_ROW, (example.sample_id, size, total, added_at, value_of(example)))
        database.execute(ADD_COUNT, (KEPT + example.reasons[0].rule, 1))
        # Its part was not done, or it would have its row: it must not be kept again when it comes again.
        database.execute(KEEP_FRAME, place_of(example))
        taken_in += 1
    for sample_id in damaged:
        logger.warning("outbox.damaged-example %s", sample_id)
        database.executemany(ADD_COUNT, [(LOST, 1), (DAMAGED, 1)])
    _value_old_rows(database, files)
    database.execute("COMMIT")
    _mark(mark, database)
    return taken_in


def _finish_leaving(database: sqlite3.Connection, files: ExampleFiles) -> None:
    found = database.execute("SELECT sample_id FROM rows WHERE state = 'leaving'").fetchall()
    if found:
        # The files first, and for good: a row that is gone no longer says that they must not come back.
        files.remove_durably([str(row[0]) for row in found])
        database.execute("DELETE FROM rows WHERE state = 'leaving'")


def _value_old_rows(database: sqlite3.Connection, files: ExampleFiles) -> None:
    """Read what rows made by version 1 are worth; a damaged one is found when it is uploaded."""
    unknown = database.execute("SELECT sample_id FROM rows WHERE value = ?", (UNKNOWN_VALUE,)).fetchall()
    for (sample_id,) in unknown:
        example = files.announcement(str(sample_id))
        value = 0.0 if example is None else value_of(example)
        database.execute("UPDATE rows SET value = ? WHERE sample_id = ?", (value, sample_id))


def _mark(mark: Path, database: sqlite3.Connection) -> None:
    """Note for the next start what keeps the books now; an empty file mostly finds room on a full disk."""
    with suppress(OSError):
        if is_in_memory(database):
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
