"""Check what the supervisor decides about one service, without any process."""

from __future__ import annotations

import pytest

from flows.up import rules
from flows.up.rules import Watch


def test_waits_for_needs() -> None:
    """A service is not started before what it needs is ready."""
    assert rules.next_step(Watch(), 0.0, needs_met=False, start_seconds=9) == "none"
    assert rules.next_step(Watch(), 0.0, needs_met=True, start_seconds=9) == "start"


def test_becomes_ready_by_its_probe_alone() -> None:
    """A started service counts as up only when its probe holds."""
    watch = rules.started(Watch(), 1.0)
    assert not rules.is_up(rules.probed(watch, 2.0, holds=False))
    assert rules.is_up(rules.probed(watch, 2.0, holds=True))


def test_kills_what_never_becomes_ready() -> None:
    """A service that does not serve within its time is killed, and thereby started again."""
    watch = rules.started(Watch(), 0.0)
    assert rules.next_step(watch, 9.0, needs_met=True, start_seconds=9) == "probe"
    assert rules.next_step(watch, 9.1, needs_met=True, start_seconds=9) == "kill"


def test_kills_what_went_deaf() -> None:
    """A running service that leaves its probes unanswered is killed."""
    watch = rules.probed(rules.started(Watch(), 0.0), 0.0, holds=True)
    for number in range(rules.DEAF_PROBES):
        now = (number + 1) * rules.PROBE_EVERY
        assert rules.next_step(watch, now, needs_met=True, start_seconds=9) == "probe"
        watch = rules.probed(watch, now, holds=False)
    assert rules.next_step(watch, 100.0, needs_met=True, start_seconds=9) == "kill"


def test_one_answer_makes_up_for_silence() -> None:
    """An answered probe forgets the unanswered ones before it."""
    watch = rules.probed(rules.started(Watch(), 0.0), 0.0, holds=True)
    watch = rules.probed(watch, 1.0, holds=False)
    assert rules.probed(watch, 2.0, holds=True).deaf == 0


@pytest.mark.parametrize(
    ("failures", "jitter", "rest"),
    [
        (1, 1.0, 0.5),
        (1, 0.0, 0.25),  # jitter takes at most half
        (2, 1.0, 1.0),
        (5, 1.0, 8.0),
        (50, 1.0, rules.LONGEST_REST),  # capped, and no overflow
    ],
)
def test_rests_longer_after_each_failure(failures: int, jitter: float, rest: float) -> None:
    """The rest doubles with every failure in a row up to a limit."""
    assert rules.rest_seconds(failures, jitter) == rest


def test_steady_service_rests_shortly() -> None:
    """A service that had been ready for long starts its back-off anew when it ends."""
    tired = Watch(state="ready", since=0.0, failures=7)
    assert rules.ended(tired, rules.STEADY_SECONDS, well=False, once=False, jitter=1.0).failures == 1
    assert rules.ended(tired, 1.0, well=False, once=False, jitter=1.0).failures == 8


def test_service_that_runs_once() -> None:
    """A one-time step is done when it ended well, and is tried again when it did not."""
    watch = rules.started(Watch(), 0.0)
    assert rules.is_up(rules.ended(watch, 1.0, well=True, once=True, jitter=0.0))
    assert rules.ended(watch, 1.0, well=False, once=True, jitter=0.0).state == "resting"


def test_ending_well_is_no_excuse_for_a_server() -> None:
    """A server that ends without an error is started again all the same, and counted."""
    watch = rules.ended(rules.started(Watch(), 0.0), 1.0, well=True, once=False, jitter=0.0)
    assert watch.state == "resting"
    assert rules.next_step(watch, watch.rest_until, needs_met=True, start_seconds=9) == "start"
    assert rules.started(watch, 2.0).restarts == 1
