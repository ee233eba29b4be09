"""When a line may rely on us: the pure state machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.outputs.failsafe import FailSafe, Mode, Patience, writes_of

PATIENCE = Patience(after_s=0.25, recover_s=1.0)


def healthy() -> FailSafe:
    """Build a state that has become healthy at 1.0."""
    state = FailSafe(PATIENCE, now=0.0)
    state.step(0.0, "")
    assert state.step(1.0, "") == "healthy"
    return state


def test_it_begins_safe() -> None:
    """Before anything was inspected the line must not rely on it."""
    state = FailSafe(PATIENCE, now=0.0)
    assert state.step(0.9, "") == "safe"
    assert state.why == "starting"


def test_short_trouble_is_no_reason_to_stop_a_line() -> None:
    """A device that missed one answer and gives the next is no failure."""
    state = healthy()
    assert state.step(2.0, "away") == "failing"
    assert state.step(2.2, "") == "healthy"
    assert state.step(2.5, "away") == "failing"
    assert state.step(2.7, "away") == "failing"


def test_trouble_that_lasts_makes_it_safe_until_all_is_well_for_long_enough() -> None:
    """A break in the recovery begins it anew."""
    state = healthy()
    state.step(2.0, "away")
    assert state.step(2.25, "away") == "safe"
    assert state.step(2.9, "") == "safe"
    assert state.step(3.0, "away") == "safe"
    assert state.step(3.9, "") == "safe"
    assert state.step(4.0, "") == "healthy"


@pytest.mark.parametrize(
    ("mode", "held"), [("reject_all", "reject"), ("pass_all", "accept"), ("stop_line", "stop")]
)
def test_the_safe_state_holds_one_point(mode: Mode, held: str) -> None:
    """The point that protects the line is written first, everything else is at rest."""
    writes = writes_of("safe", mode, "camera away")
    assert (writes[0].point, writes[0].value) == (held, 1)
    assert {write.point for write in writes if write.value} == {held, "failsafe"}
    assert not any(write.value for write in writes_of("healthy", mode, ""))


@given(st.lists(st.tuples(st.floats(0.001, 0.5), st.booleans()), max_size=60))
def test_it_is_safe_in_time_and_never_healthy_in_trouble(steps: list[tuple[float, bool]]) -> None:
    """Whatever happens: trouble for `after_s` is answered, and healthy means all is well now."""
    state, now, since = FailSafe(PATIENCE, now=0.0), 0.0, None
    for pause, wrong in steps:
        now += pause
        shown = state.step(now, "away" if wrong else "")
        since = (now if since is None else since) if wrong else None
        assert not (wrong and shown == "healthy")
        assert not (wrong and since is not None and now - since >= PATIENCE.after_s and shown != "safe")
