"""Do several things to the outbox's database or none, and say in our words what went wrong."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from edge_agent.errors import DiskFull, OutboxError

FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Transaction(AbstractContextManager[object]):
    """Commit what was done inside, or roll back when it raised."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            # SQLite rolls back by itself when the disk is full; a failed commit leaves the transaction open.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")


def disk_error(error: OSError, folder: Path) -> DiskFull | OutboxError:
    """Say in our words what the file system said."""
    if error.errno in FULL_ERRORS:
        return DiskFull(
            expected="room on the disk",
            got=str(error.strerror),
            where=str(folder),
            now="Free some disk space; the loop goes on without keeping.",
        )
    return OutboxError(expected="a folder that can be written", got=str(error), where=str(folder))


def is_full(error: sqlite3.Error) -> bool:
    """Tell whether SQLite found no room; it has only one error for all that is wrong with a disk."""
    return "disk is full" in str(error)


def database_error(error: sqlite3.Error, folder: Path) -> DiskFull | OutboxError:
    """Say in our words what SQLite said."""
    if is_full(error):
        return DiskFull(
            expected="room for the outbox's database",
            got=str(error),
            where=str(folder),
            now="Free some disk space; the loop goes on without keeping.",
        )
    return OutboxError(expected="an outbox database that can be written", got=str(error), where=str(folder))


@contextmanager
def in_our_words(folder: Path) -> Iterator[None]:
    """Let errors of the file system and of SQLite out as ours.

    Raises:
        DiskFull: no room, whoever found it.
        OutboxError: anything else.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(error, folder) from error
    except sqlite3.Error as error:
        raise database_error(error, folder) from error


@contextmanager
def as_it_was_when_full(folder: Path) -> Iterator[None]:
    """Pass over a full disk: rows stay as they are, since what is asked twice is answered twice.

    Raises:
        OutboxError: anything else is wrong with the database.
    """
    try:
        yield
    except sqlite3.Error as error:
        if not is_full(error):
            raise database_error(error, folder) from error
