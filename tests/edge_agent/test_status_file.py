"""Test that the status file says what is new and wears out no card."""

from __future__ import annotations

from pathlib import Path

from edge_agent.status_file import StatusFile
from fleet_contracts.base import decode, utc_now
from fleet_contracts.releases import DeviceReport, Vitals


class Clock:
    """Be a clock the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def report_of(frames: int, free: int = 0) -> DeviceReport:
    return DeviceReport(
        task_id="boards",
        device_id="box-1",
        reported_at=utc_now(),
        agent_version="1",
        state="serving",
        release_version=1,
        frames_inspected=frames,
        vitals=Vitals(disk_free_bytes=free),
    )


def test_what_says_nothing_new_is_not_written(tmp_path: Path) -> None:
    """However often it is reported, and also when somebody calls it urgent."""
    clock = Clock()
    file = StatusFile(tmp_path / "status.json", 60.0, clock)
    for minute in range(100):
        clock.now = minute * 60.0
        file.keep(report_of(1), urgent=minute % 2 == 0)
    assert file.writes == 1


def test_counts_are_written_once_in_a_pause_and_news_at_once(tmp_path: Path) -> None:
    """What changes all the time waits; a new state or problem does not; vitals alone wait ten times longer."""
    clock = Clock()
    file = StatusFile(tmp_path / "status.json", 60.0, clock)
    for second in range(0, 600, 10):
        clock.now = float(second)
        file.keep(report_of(second), urgent=False)
    assert file.writes == 10
    clock.now += 1
    file.keep(report_of(10_000), urgent=True)
    assert file.writes == 11
    for _ in range(10):
        clock.now += 60
        file.keep(report_of(10_000, free=int(clock.now)), urgent=False)
    assert file.writes == 12
    written = decode(DeviceReport, (tmp_path / "status.json").read_bytes(), where="file")
    assert written.frames_inspected == 10_000
