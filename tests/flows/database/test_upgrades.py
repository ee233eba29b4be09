"""Bring databases of earlier versions, with what they hold, to the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select

from fleet_contracts import utc_now
from flows.database import Database
from flows.database.migrate import MIGRATIONS
from flows.database.schema import Base, CaptureRow, TriggerRow
from tests.flows.database.servers import postgres
from tests.flows.kit import DEVICE, TASK


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'whetstone.db'}"
        return
    with postgres() as address:
        yield address


def migrate(database: Database, revision: str, *, back: bool = False) -> None:
    """Bring the tables to one revision, as that version of Whetstone left them."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if back else command.upgrade)(config, revision)


def test_the_first_version_with_data_becomes_the_newest(url: str) -> None:
    """What was recorded stays, captures can be recorded, and the step can be taken back and again."""
    old = Database.open(url, migrate=False)
    migrate(old, "0001")
    assert "captures" not in inspect(old.engine).get_table_names()
    now = utc_now()
    with old.session() as session:
        session.add(
            TriggerRow(
                task_id=TASK,
                asked=False,
                verified_new=3,
                threshold=5,
                reason="few",
                decided_at=now,
                emitted=0,
            )
        )
    old.close()

    new = Database.open(url)
    try:
        with new.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        with new.session() as session:
            session.add(
                CaptureRow(
                    command_id="c-1", task_id=TASK, device_id=DEVICE, command={"frames": 1}, outcome="waiting",
                    detail="", frames_kept=0, asked_at=now, expires_at=now + timedelta(hours=1),
                    answered_at=None,
                )
            )  # fmt: skip
        with new.reader() as session:
            assert session.scalars(select(TriggerRow)).one().verified_new == 3
            assert session.get_one(CaptureRow, "c-1").command == {"frames": 1}
        migrate(new, "0001", back=True)
        new.migrate()
        with new.reader() as session:
            assert session.scalars(select(TriggerRow)).one().reason == "few"
            assert session.get(CaptureRow, "c-1") is None
    finally:
        new.close()
