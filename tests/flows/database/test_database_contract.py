"""Hold SQLite and PostgreSQL to the same contract."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from fleet_contracts import utc_now
from flows.catalog.samples import find_sample, labelled_samples, put_sample
from flows.context import Context
from flows.database import Database
from flows.database.schema import Base, LabelRow, RolloutRow, SightingRow, TriggerRow
from flows.errors import DatabaseAway
from flows.gpus.heartbeats import Me, beat, reapers
from flows.gpus.reaper import Round
from flows.settings import Settings
from flows.store import MemoryStore
from flows.trigger import count_new
from tests.flows.database.servers import postgres
from tests.flows.kit import TASK, SimulatedBox, picture
from tests.helpers import free_port


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('database') / 'whetstone.db'}"
        return
    with postgres() as address:
        yield address


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    with opened.session() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(table.delete())
    yield opened
    opened.close()


def _trigger(now: datetime, count: int = 1) -> TriggerRow:
    return TriggerRow(
        task_id=TASK, asked=False, verified_new=count, threshold=5, reason="few", decided_at=now, emitted=0
    )


def test_migrations_make_the_tables_the_rows_describe(database: Database) -> None:
    """After migrating, nothing differs between the tables and the typed rows; migrating again is harmless."""
    database.migrate()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_moments_come_back_in_utc(database: Database) -> None:
    """A moment given in any zone is the same moment in UTC afterwards; a naive one is refused."""
    tokyo = datetime(2026, 5, 1, 9, 30, tzinfo=timezone(timedelta(hours=9)))
    with database.session() as session:
        session.add(_trigger(tokyo))
    with database.reader() as session:
        row = session.scalars(select(TriggerRow)).one()
    assert row.decided_at == tokyo
    assert row.decided_at.utcoffset() == timedelta(0)
    with pytest.raises(Exception, match="time zone"), database.session() as session:
        session.add(_trigger(datetime(2026, 5, 1, 9, 30)))  # noqa: DTZ001 - naive on purpose


def test_a_failed_block_leaves_nothing(database: Database) -> None:
    """What a transaction did is gone when its block raises."""

    def fail_half_way() -> None:
        with database.session() as session:
            session.add(_trigger(utc_now()))
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(TriggerRow)) == 0


def test_a_reader_changes_nothing(database: Database) -> None:
    """What a reading transaction writes by mistake is dropped."""
    with database.reader() as session:
        session.add(_trigger(utc_now()))
        session.flush()
    with database.reader() as session:
        assert session.scalar(select(func.count()).select_from(TriggerRow)) == 0


def test_foreign_keys_are_kept(database: Database) -> None:
    """A label of a sample that is not there is refused."""
    row = LabelRow(
        task_id=TASK, sample_id="a" * 64, revision=1, class_list_version=1, boxes=[], source="human",
        verified=True, labelled_by="x", labelled_at=utc_now(), content_sha256="b" * 64,
    )  # fmt: skip
    with pytest.raises(IntegrityError), database.session() as session:
        session.add(row)


def test_json_columns_keep_their_shape(database: Database) -> None:
    """Lists and maps come back as they were stored."""
    row = RolloutRow(
        rollout_id="r1", task_id=TASK, channel="stable", release_version=3, model_id="a" * 64,
        devices=["box-1", "box-2"], state="rolling", started_at=utc_now(),
    )  # fmt: skip
    with database.session() as session:
        session.add(row)
    with database.reader() as session:
        assert session.get_one(RolloutRow, "r1").devices == ["box-1", "box-2"]


def test_reapers_are_heard_on_every_database(database: Database) -> None:
    """Two hosts' reapers beat into one table, each again and again, and each sees the other."""
    now = utc_now()
    for me in (Me("here", "boot-1"), Me("there", "boot-2"), Me("here", "boot-1")):
        beat(database, me, Round("cloud"), now)
    beat(database, Me("here", "boot-1"), Round("cloud", answered=False, trouble="away"), now + timedelta(seconds=1))
    assert [(one.host, dict(one.seen)) for one in reapers(database)] == [
        ("here", {"cloud": now}), ("there", {"cloud": now}),
    ]  # fmt: skip


def test_catalog_queries_work(database: Database, tmp_path: Path) -> None:
    """Samples, sightings and the count of new labels work the same on every database."""
    ctx = Context(tmp_path, Settings(), MemoryStore(), database)
    example = SimulatedBox(ctx).describe(picture(1), part="plate-1")
    with database.session() as session:
        put_sample(session, example)
        put_sample(session, example)
    with database.reader() as session:
        assert find_sample(session, TASK, example.sample_id) is not None
        assert session.scalar(select(func.count()).select_from(SightingRow)) == 1
        assert labelled_samples(session, TASK) == []
        assert count_new(session, TASK, "f" * 64) == 0


def test_writers_wait_for_each_other(database: Database) -> None:
    """Two read-then-write blocks at once both take effect, since writers take turns."""
    with database.session() as session:
        session.add(_trigger(utc_now(), count=0))

    def add_ten() -> None:
        for _ in range(10):
            with database.session() as session:
                row = session.scalars(select(TriggerRow)).one()
                row.verified_new += 1

    threads = [threading.Thread(target=add_ten) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reader() as session:
        assert session.scalars(select(TriggerRow)).one().verified_new == 40


def test_sqlite_is_durable_and_does_not_block_readers(tmp_path: Path) -> None:
    """SQLite runs in WAL with full synchronisation, and a reader does not wait for a writer."""
    database = Database.open(f"sqlite:///{tmp_path / 'deep' / 'w.db'}")
    with database.session() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1
        session.add(_trigger(utc_now()))
        session.flush()
        with database.reader() as other:
            assert other.scalar(select(func.count()).select_from(TriggerRow)) == 0
    database.close()


def test_a_database_that_is_away_says_so(tmp_path: Path) -> None:
    """Nobody answering is `DatabaseAway`, with the password left out of the message."""
    away = f"postgresql://user:secret@127.0.0.1:{free_port()}/whetstone"
    with pytest.raises(DatabaseAway) as caught:
        Database.open(away)
    assert "secret" not in str(caught.value)
