"""Open the database and hand out transactions: SQLite by default, PostgreSQL in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from flows.errors import DatabaseAway

BUSY_SECONDS = 30
WRITERS_LOCK = 0x77686574
"""Advisory lock that PostgreSQL's writers share; SQLite has one of its own."""


class Database:
    """Hold the engine; every unit of work is one `with database.session() as session:`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writers = sessionmaker(engine, expire_on_commit=False)
        self._readers = sessionmaker(engine.execution_options(reads_only=True), expire_on_commit=False)

    @classmethod
    def open(cls, url: str, *, migrate: bool = True) -> Database:
        """Connect, and bring the tables to the newest version unless told not to.

        Raises:
            DatabaseAway: it does not answer.
        """
        database = cls(_make_engine(url))
        if migrate:
            database.migrate()
        return database

    def migrate(self) -> None:
        """Bring the tables to the newest version; doing so twice changes nothing."""
        from flows.database.migrate import upgrade

        with _errors_of(self.engine):
            upgrade(self.engine)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open one transaction: committed when the block ends, rolled back when it raises.

        Writers take turns: the transaction takes a lock at its start, so that two read-then-write blocks
        never both believe what they read. Keep blocks short.
        """
        with _errors_of(self.engine), self._writers.begin() as session:
            yield session

    @contextmanager
    def reader(self) -> Iterator[Session]:
        """Open one transaction that only reads: it waits for no writer; its changes are dropped."""
        with _errors_of(self.engine), self._readers() as session:
            yield session

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()


def _make_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(parsed, pool_pre_ping=True)
        event.listen(engine, "begin", _begin_postgres)
        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling is switched off; `_begin_sqlite` opens each one.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_postgres(connection: Connection) -> None:
    if not connection.get_execution_options().get("reads_only", False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


@contextmanager
def _errors_of(engine: Engine) -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise DatabaseAway(
            expected="an answer", got=str(error.orig), where=engine.url.render_as_string()
        ) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise DatabaseAway(
            expected="a living connection", got=str(error.orig), where=engine.url.render_as_string()
        ) from error
