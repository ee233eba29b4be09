"""Test back-off, counters, events and atomic files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edge_agent.backoff import Backoff, wait_after
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.files import move_aside, write_atomically


def test_waits_double_with_jitter_up_to_their_limit() -> None:
    """Each wait lies in the upper half of its step, and success begins again."""
    backoff = Backoff(1.0, 10.0, random.Random(7))
    waits = [backoff.next_s() for _ in range(8)]
    for wait, step in zip(waits, (1, 2, 4, 8, 10, 10, 10, 10), strict=True):
        assert step / 2 <= wait <= step
    assert len(set(waits)) == 8
    backoff.reset()
    assert backoff.next_s() <= 1.0
    assert wait_after(10_000, 1.0, 60.0) == 60.0


def test_two_boxes_do_not_wait_alike() -> None:
    """A fleet does not come back all at once."""
    assert Backoff(10, 10, random.Random(1)).next_s() != Backoff(10, 10, random.Random(2)).next_s()


def test_changes_that_could_not_be_stored_are_handed_out_again() -> None:
    """No count is lost with a full disk, and none is told twice."""
    counters = Counters({"kept.random": 3})
    counters.add("outbox_lost")
    counters.add_stored({"kept.random": 1})
    changes = counters.take_changes()
    assert changes == {"outbox_lost": 1}
    assert counters.take_changes() == {}
    counters.give_back(changes)
    counters.add("outbox_lost")
    assert counters.take_changes() == {"outbox_lost": 2}
    assert counters.value("outbox_lost") == 2
    assert counters.with_prefix("kept.") == {"random": 4}


def test_problems_stand_until_they_are_cleared() -> None:
    """A report shows what is wrong now, not what once was."""
    heard: list[str] = []
    events = Events((lambda name, fields: heard.append(name),))
    events.set_problem("store.away", "no answer")
    assert events.problems() == {"store.away": "no answer"}
    events.clear_problem("store.away")
    events.clear_problem("store.away")
    assert events.problems() == {}
    events.note("a.b", x=1)
    assert (events.count("a.b"), heard) == (1, ["a.b"])


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    """Neither half a file nor a temporary one is left behind."""
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "missing" / "a", b"new")
    assert path.read_bytes() == b"old"


def test_moving_aside_never_overwrites(tmp_path: Path) -> None:
    """Two bad files of one name are both kept."""
    for content in (b"1", b"2"):
        (tmp_path / "bad.jpg").write_bytes(content)
        move_aside(tmp_path / "bad.jpg", tmp_path / "aside")
    assert {path.read_bytes() for path in (tmp_path / "aside").iterdir()} == {b"1", b"2"}
