"""Keep what reapers found where every launch can ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from flows.database import Database
from flows.gpus.heartbeats import KEPT_FOR, Me, beat, beats, reapers
from flows.gpus.reaper import Round

HERE, THERE = Me("here", "boot-1"), Me("there", "boot-2")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a fresh database."""
    opened = Database.open(f"sqlite:///{tmp_path / 'test.db'}")
    yield opened
    opened.close()


def test_every_reaper_and_provider_is_kept_apart(database: Database) -> None:
    """A beat replaces the same reaper's last one for the same provider, and no other."""
    now = utc_now()
    beat(database, HERE, Round("cloud"), now - timedelta(seconds=10))
    beat(database, HERE, Round("cloud"), now)
    beat(database, HERE, Round("other"), now)
    beat(database, THERE, Round("cloud"), now)
    assert [(one.host, one.provider, one.seen_at) for one in beats(database)] == [
        ("here", "cloud", now), ("here", "other", now), ("there", "cloud", now),
    ]  # fmt: skip
    assert {one.host: set(one.seen) for one in reapers(database)} == {"here": {"cloud", "other"}, "there": {"cloud"}}


def test_a_provider_that_did_not_answer_was_not_seen(database: Database) -> None:
    """The beat says what is wrong; when it was seen last stands."""
    now = utc_now()
    beat(database, HERE, Round("cloud"), now - timedelta(minutes=1))
    beat(database, HERE, Round("cloud", answered=False, locked_out=True, trouble="token refused"), now)
    beat(database, HERE, Round("never", answered=False, trouble="away"), now)
    cloud, never = beats(database)
    assert (cloud.beat_at, cloud.seen_at, cloud.trouble) == (now, now - timedelta(minutes=1), "token refused")
    assert (never.seen_at, never.trouble) == (None, "away")
    (one,) = reapers(database)
    assert dict(one.seen) == {"cloud": now - timedelta(minutes=1)}


def test_the_long_silent_are_forgotten(database: Database) -> None:
    """Every boot leaves a row behind, and none for ever."""
    now = utc_now()
    beat(database, HERE, Round("cloud"), now - KEPT_FOR - timedelta(seconds=1))
    beat(database, THERE, Round("cloud"), now)
    assert [one.host for one in beats(database)] == ["there"]


def test_a_machine_knows_its_own_name_and_boot() -> None:
    """Two reapers in one process are one."""
    assert Me() == Me()
    assert Me().host
    assert len(Me().boot) == 36
