"""Test what the cloud hears of a box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.care.machine import Machine
from edge_agent.care.watch import Readings
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.link import LinkOptions, MemoryBroker, MemoryLink
from edge_agent.link.base import LinkHandlers
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.reports import Reporter, ReportSources, build_report, will_of
from edge_agent.still_updater import StillState
from fleet_contracts import topics
from fleet_contracts.base import decode
from fleet_contracts.releases import DeviceReport, Vitals
from tests.edge_agent.builders import DEVICE, TASK, boxes, config_of, example_of, jpeg, model_of


class Desk:
    """Hold everything a report is made from."""

    def __init__(self, folder: Path) -> None:
        self.config = config_of(folder)
        self.updater = StillState(3, "a" * 64)
        self.events, self.slot = Events(), ModelSlot()
        self.outbox = Outbox(folder / "outbox", DiskGuard(10**9, 0))
        self.counters = Counters(
            {"frames_inspected": 5, "part.accept": 4, "kept.random": 1, "outbox_lost": 2}
        )
        self.sources = ReportSources(self.outbox, self.counters, self.events, self.slot, lambda: self.updater)

    def serve(self) -> None:
        self.slot.offer(model_of(3, boxes()))
        self.slot.take()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_report_holds_model_counts_and_problems(desk: Desk) -> None:
    """Everything the fleet's screen shows comes from one document."""
    desk.serve()
    image = jpeg(1)
    desk.outbox.add(image, example_of(image), {})
    desk.events.set_problem("store.away", "no answer")
    report = build_report(desk.config, desk.sources)
    assert (report.release_version, report.frames_inspected, report.outbox_lost) == (3, 5, 2)
    assert (report.parts, report.kept, report.outbox_waiting) == ({"accept": 4}, {"random": 1}, 1)
    assert (report.state, report.problem) == ("degraded", "store.away: no answer")


@pytest.mark.parametrize(
    ("updater", "serving", "problem", "state"),
    [
        ("serving", True, "", "serving"),
        ("serving", False, "", "starting"),
        ("updating", True, "x", "updating"),
        ("rolled_back", True, "x", "rolled_back"),
        ("degraded", True, "", "degraded"),
        ("serving", True, "x", "degraded"),
    ],
)
def test_one_word_says_how_it_fares(
    desk: Desk, updater: str, serving: bool, problem: str, state: str
) -> None:
    """What the updater is doing goes before a problem elsewhere."""
    desk.updater = replace(desk.updater, state=updater, problem=problem)  # type: ignore[arg-type]
    if serving:
        desk.serve()
    assert build_report(desk.config, desk.sources).state == state


def test_a_problem_is_told_once(desk: Desk) -> None:
    """The updater's problem stands among the others already."""
    desk.events.set_problem("ota", "release 4 was refused")
    desk.updater = replace(desk.updater, problem="release 4 was refused")
    assert build_report(desk.config, desk.sources).problem == "ota: release 4 was refused"


def test_a_silent_camera_is_a_problem(desk: Desk) -> None:
    """A camera that hangs in its driver is seen from outside."""
    desk.serve()
    sources = replace(desk.sources, camera_idle_s=lambda: 60.0)
    assert "no frame for 60 s" in build_report(desk.config, sources).problem


def test_the_report_goes_out_retained_as_status_and_to_the_status_file(desk: Desk, tmp_path: Path) -> None:
    """Whoever connects later sees the last status; the command line reads the file."""
    broker = MemoryBroker()
    link = MemoryLink(broker, LinkOptions("box", (), will_of(desk.config)))
    link.start(LinkHandlers())
    reporter = Reporter(desk.config, link, desk.sources, tmp_path / "status.json")
    report = reporter.report()
    status = topics.up(TASK, DEVICE, "status")
    assert broker.retained(topics.up(TASK, DEVICE, "report")) is None
    retained = broker.retained(status)
    assert retained is not None
    assert decode(DeviceReport, retained, where=status) == report
    assert decode(DeviceReport, (tmp_path / "status.json").read_bytes(), where="file") == report
    broker.drop(link)
    will = broker.retained(status)
    assert will is not None
    assert decode(DeviceReport, will, where=status).state == "offline"


def test_a_status_file_that_cannot_be_written_stops_no_report(desk: Desk, tmp_path: Path) -> None:
    """A full disk is told over the network all the same."""
    broker = MemoryBroker()
    link = MemoryLink(broker, LinkOptions("box", ()))
    link.start(LinkHandlers())
    Reporter(desk.config, link, desk.sources, tmp_path / "missing" / "status.json").report()
    assert "report.status-file" in desk.events.problems()
    assert broker.retained(topics.up(TASK, DEVICE, "status")) is not None


def test_vitals_say_how_fast_hot_and_full_the_box_is(desk: Desk) -> None:
    """What the box measures of itself travels with the report; what it cannot measure is left out."""
    desk.serve()
    sources = replace(
        desk.sources,
        readings=lambda: Readings(Machine({"cpu": 61.234, "gpu": 50.0}), 10**9, 12.3456, -0.25),
        frame_ms=lambda: (11.123, 14.5),
        late_ms=lambda: 3.0,
    )
    for second in range(3):
        sources.pace.sample(float(second), second * 25)
    vitals = build_report(desk.config, sources).vitals
    assert vitals == Vitals(
        frames_per_second=25.0,
        frame_ms_p50=11.12,
        frame_ms_p99=14.5,
        sorter_late_ms_p99=3.0,
        hottest_celsius=61.23,
        disk_free_bytes=10**9,
        clock_skew_s=-0.25,
        certificate_days=12.35,
    )
    desk.counters.add("outbox_evicted", 4)
    bare = build_report(desk.config, desk.sources)
    assert bare.outbox_evicted == 4
    assert bare.vitals is not None
    assert bare.vitals.frame_ms_p99 is None


def test_no_problem_carries_a_secret_to_the_cloud() -> None:
    """Problems quote addresses; what a report, a status file or a metric says of them holds no password."""
    events = Events()
    events.set_problem("output.away.scada", "opc.tcp://user:hunter2@plc:4840: expected a session")
    assert "hunter2" not in str(events.problems())
    assert "plc:4840" in events.problems()["output.away.scada"]
