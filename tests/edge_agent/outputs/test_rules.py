"""What is due when: pure rules of outputs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.outputs.rules import Drop, Fire, Miss, Plan, Routing, Timing
from fleet_contracts.samples import Verdict
from tests.edge_agent.outputs.outputs_kit import shot_of

TIMING = Timing(travel_s=1.0, pulse_s=0.1, late_ok_s=0.02, limit=4)
ALL = Routing(("accept", "reject", "unsure"), "separate")


def test_a_part_fires_when_it_is_due_and_its_pulse_ends() -> None:
    """Nothing happens early; data is written before the pulse, and the pulse ends by itself."""
    plan = Plan(TIMING, Routing())
    assert plan.add(shot_of("reject", 5.0, number=7))
    assert plan.next_mono() == 5.0
    assert plan.pop(4.999) is None
    fire = plan.pop(5.001)
    assert isinstance(fire, Fire)
    assert [(write.point, write.value) for write in fire.writes] == [
        ("parts", 7),
        ("verdict", 2),
        ("reject", 1),
    ]
    assert not plan.pulsed("reject", 5.001)
    assert plan.pop(5.1) is None
    assert plan.pop(5.102) == Drop("reject")
    assert plan.next_mono() == math.inf


def test_a_decision_that_comes_too_late_is_missed() -> None:
    """A pulse that would hit the next part is left out, one within the slack fires at once."""
    plan = Plan(TIMING, Routing())
    plan.add(shot_of("reject", 5.0))
    plan.add(shot_of("reject", 5.1))
    first, second = plan.pop(5.11), plan.pop(5.11)
    assert isinstance(first, Miss)
    assert first.why == "late"
    assert isinstance(second, Fire)


@pytest.mark.parametrize(("unsure", "lane"), [("reject", "reject"), ("accept", None), ("separate", "unsure")])
def test_unsure_parts_go_where_the_line_wants_them(unsure: str, lane: str | None) -> None:
    """An unsure part is rejected, let pass, or given a lane of its own."""
    plan = Plan(TIMING, Routing(("reject", "unsure"), unsure))  # type: ignore[arg-type]
    plan.add(shot_of("unsure", 1.0))
    fire = plan.pop(1.0)
    assert isinstance(fire, Fire)
    assert fire.lane == lane


def test_a_pulse_that_meets_another_prolongs_it() -> None:
    """Two parts closer than a pulse give one long pulse, which is said."""
    plan = Plan(TIMING, Routing())
    assert not plan.pulsed("reject", 1.0)
    assert plan.pulsed("reject", 1.05)
    assert plan.pop(1.1) is None
    assert plan.pop(1.16) == Drop("reject")


def test_a_full_plan_refuses() -> None:
    """Parts under way are bounded, and one that was handled makes room."""
    plan = Plan(TIMING, Routing())
    assert all(plan.add(shot_of("accept", 1.0)) for _ in range(4))
    assert not plan.add(shot_of("accept", 1.0))
    assert plan.pop(1.0) is not None
    assert plan.add(shot_of("accept", 1.0))


def test_the_fail_safe_state_stands_in_for_verdicts() -> None:
    """While lanes are held no part is fired and no pulse is ended."""
    plan = Plan(TIMING, Routing())
    plan.pulsed("reject", 1.0)
    plan.add(shot_of("reject", 1.0))
    plan.hold(held=True)
    step = plan.pop(1.0)
    assert isinstance(step, Miss)
    assert step.why == "held"
    assert plan.pop(9.0) is None


DUES = st.lists(st.tuples(st.sampled_from(["accept", "reject", "unsure"]), st.floats(0, 10)), max_size=20)


@given(DUES, st.lists(st.floats(0, 12), max_size=30))
def test_every_part_has_exactly_one_outcome(parts: list[tuple[Verdict, float]], looks: list[float]) -> None:
    """Whenever one looks, no part is lost, doubled, early, or fired later than the slack."""
    plan = Plan(Timing(1.0, 0.1, 0.5, limit=100), ALL)
    for number, (verdict, due) in enumerate(parts):
        assert plan.add(shot_of(verdict, due, number))
    seen = []
    for now in [*sorted(looks), 20.0]:
        while (step := plan.pop(now)) is not None:
            if isinstance(step, Drop):
                continue
            seen.append(step.shot.number)
            assert step.shot.due_mono <= now
            assert isinstance(step, Fire) == (now - step.shot.due_mono <= 0.5)
            if isinstance(step, Fire) and step.lane:
                plan.pulsed(step.lane, now)
    assert sorted(seen) == list(range(len(parts)))
    assert plan.under_way() == 0
