"""Call a person for a GPU that is paid for and little used, with the watch's own diagnosis."""

from __future__ import annotations

from typing import Any

from fleet_contracts import utc_now
from fleet_contracts.training import RunEvent, RunEventKind, WatchPolicy
from flows.gpus.alarm import NOT_DIAGNOSED, WINDOW_SECONDS, starved

POLICY = WatchPolicy()


def told(*kinds: tuple[RunEventKind, dict[str, Any]]) -> list[RunEvent]:
    """Return events in order; epochs are counted."""
    return [
        RunEvent(task_id="plates", run_id="run-0123456789abcdef", number=number, at=utc_now(), kind=kind,
                 epoch=number, data=data)
        for number, (kind, data) in enumerate(kinds)
    ]  # fmt: skip


def epoch(used: float | None, seconds: float = 100.0, wait: float = 0.3) -> tuple[RunEventKind, dict[str, Any]]:
    """Return an epoch's event."""
    return "epoch", {"seconds": seconds, "utilisation": used, "data_wait_share": wait}


LOADER: tuple[RunEventKind, dict[str, Any]] = (
    "watch", {"kind": "loader", "why": "steps wait 40 % of their time for data", "advice": "2 loaders become 4"}
)  # fmt: skip


def test_a_starved_card_is_told_with_its_diagnosis() -> None:
    """Under six tenths over the window: what was measured, and what the watch says holds it back."""
    alarm = starved(told(("started", {}), LOADER, *[epoch(0.4)] * 3), POLICY)
    assert alarm is not None
    assert (alarm.epoch, alarm.seconds, alarm.utilisation, alarm.data_wait) == (4, 300.0, 0.4, 0.3)
    assert alarm.kind == "loader"
    assert "40 % of their time" in alarm.line()
    assert "2 loaders become 4" in alarm.line()
    assert "40% busy over 300 s" in alarm.line()


def test_a_busy_card_and_a_short_time_are_no_alarm() -> None:
    """The bound itself is enough; less than the window proves nothing, nor do epochs that measured nothing."""
    assert starved(told(*[epoch(0.6)] * 5), POLICY) is None
    assert starved(told(*[epoch(0.1)] * 2), POLICY) is None
    assert starved(told(*[epoch(None)] * 9), POLICY) is None
    assert starved([], POLICY) is None


def test_what_counts_is_the_newest_window_on_this_machine() -> None:
    """A bad begin that was cured is no alarm, nor is what another machine did before."""
    cured = [*[epoch(0.1)] * 3, *[epoch(0.9)] * 3]
    assert starved(told(*cured), POLICY) is None
    moved = [*[epoch(0.1)] * 9, ("resumed", {}), epoch(0.1)]
    assert starved(told(*moved), POLICY) is None
    assert starved(told(*moved, *[epoch(0.1)] * 2), POLICY) is not None


def test_without_a_diagnosis_it_says_so() -> None:
    """News of downloads and checkpoints are no diagnosis."""
    alarm = starved(told(("watch", {"kind": "download", "why": "slow"}), epoch(0.2, WINDOW_SECONDS)), POLICY)
    assert alarm is not None
    assert alarm.kind == NOT_DIAGNOSED


def test_what_a_machine_writes_is_not_believed_blindly() -> None:
    """Words, negative times and shares above one are left out or bounded."""
    bad = [("epoch", {"seconds": "x", "utilisation": 0.1}), epoch(0.1, -5.0), epoch(0.1, 1e9)]
    assert starved(told(*bad, epoch(0.1, 10.0)), POLICY) is None
    alarm = starved(told(epoch(-3.0, 400.0, wait=7.0)), POLICY)
    assert alarm is not None
    assert (alarm.utilisation, alarm.data_wait) == (0.0, 1.0)
