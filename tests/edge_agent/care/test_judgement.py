"""Test what counts as hung: the loop and its engine, never the line."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.care import Deadlines, Heartbeat, judge

NOW = 1000.0
DEADLINES = Deadlines(engine_s=30.0, loop_s=10.0)


@dataclass
class State:
    beats: int = 5
    last_beat_mono: float = NOW
    engine_since_mono: float = 0.0


@pytest.mark.parametrize(
    ("state", "health"),
    [
        (State(beats=0, last_beat_mono=NOW - 500), "starting"),
        (State(last_beat_mono=NOW - 9), "turning"),
        (State(last_beat_mono=NOW - 11), "hung"),
        (State(last_beat_mono=NOW - 29, engine_since_mono=NOW - 29), "turning"),
        (State(last_beat_mono=NOW - 31, engine_since_mono=NOW - 31), "hung"),
        (State(beats=0, engine_since_mono=NOW - 31), "hung"),
    ],
)
def test_the_engine_has_its_own_deadline(state: State, health: str) -> None:
    """A long engine call is no silent loop, and the reason names the key that allows more."""
    judgement = judge(state, NOW, DEADLINES)
    assert judgement.health == health
    assert judgement.is_healthy == (health == "turning")
    if health == "hung":
        assert "care." in judgement.why


@given(st.floats(0, 10), st.floats(0, 30))
def test_a_loop_within_its_deadlines_is_never_hung(silent_s: float, in_engine_s: float) -> None:
    """Whatever the line, camera or network do: a turning loop is healthy."""
    assert judge(State(last_beat_mono=NOW - silent_s), NOW, DEADLINES).health == "turning"
    assert judge(State(engine_since_mono=NOW - in_engine_s), NOW, DEADLINES).health == "turning"


def test_an_engine_that_raises_is_left() -> None:
    """The mark goes with the call, however it ends, and leaving is a sign of life."""
    heart = Heartbeat()
    heart.beat()
    before = heart.last_beat_mono
    with contextlib.suppress(RuntimeError), heart.engine():
        assert heart.engine_since_mono > 0
        raise RuntimeError
    assert heart.engine_since_mono == 0.0
    assert heart.last_beat_mono >= before
    assert heart.engine() is heart.engine()
