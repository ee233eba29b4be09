"""Test what Prometheus reads of a real agent, and that nothing it meets hurts the agent."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.care import Heartbeat
from edge_agent.care.build import CareParts, metric_sources
from edge_agent.care.watch import MachineWatch
from edge_agent.config import AgentConfig, MetricsConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.metrics.exporter import AgentCollector, Exporter
from edge_agent.metrics.rate import RateMeter
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox import DiskGuard, Outbox
from edge_agent.reports import ReportSources
from edge_agent.still_updater import StillState
from edge_agent.timings import StageTimes
from tests.edge_agent.builders import config_of
from tests.edge_agent.desk_box import Box
from tests.helpers import ROOT, free_port, wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(port: int) -> Samples:
    """Read every sample by name and labels, with the parser Prometheus' own client has."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, metric: str, /, **labels: str) -> float | None:
    return samples.get((metric, tuple(sorted(labels.items()))))


def test_a_running_agent_is_scraped(box: Box) -> None:
    """Counts, latencies, outbox, release, link and problems are what the agent's report says."""
    port = free_port()
    config = box.configure()
    config.write_text(config.read_text() + f"[metrics]\nport = {port}\n")
    box.feed(20)
    box.start()
    wait_until(lambda: box.reported("frames_inspected") == 20, 30, "20 frames")
    wait_until(lambda: box.reported("receipts") == 10, 20, "the receipts")
    found = scrape(port)
    assert value(found, "whetstone_frames_inspected_total") == 20
    assert value(found, "whetstone_parts_total", verdict="reject") == 10
    assert value(found, "whetstone_examples_kept_total", reason="nothing-seen") == 10
    assert value(found, "whetstone_receipts_total") == 10
    assert (value(found, "whetstone_uploaded_bytes_total") or 0) > 1000
    assert value(found, "whetstone_outbox_examples", state="waiting") == 0
    assert value(found, "whetstone_broker_connected") == 1
    assert value(found, "whetstone_release_version") == 1
    engine = value(found, "whetstone_stage_latency_seconds", stage="engine", quantile="0.99")
    assert engine is not None
    assert 0 < engine < 5
    assert (value(found, "whetstone_loop_turns_total") or 0) >= 20
    assert (value(found, "whetstone_disk_free_bytes") or 0) > 0
    assert (value(found, "process_resident_memory_bytes") or 0) > 0
    assert not [name for name, _ in found if name == "whetstone_problem"]
    guide = (ROOT / "docs" / "edge.md").read_text()
    ours = {name for name, _ in found if name.startswith("whetstone_") and not name.endswith("_created")}
    assert [name for name in sorted(ours) if f"`{name}`" not in guide] == []
    report = box.cloud.reports["box-1"]
    assert report.vitals is not None
    assert report.vitals.frame_ms_p99 is not None
    assert report.vitals.disk_free_bytes
    # The camera's folder vanishes: a problem with a name, that ends with it.
    box.frames.rename(box.folder / "away")
    wait_until(lambda: value(scrape(port), "whetstone_problem", name="source.away") == 1, 20, "the problem")
    (box.folder / "away").rename(box.frames)
    box.feed(1)
    wait_until(lambda: value(scrape(port), "whetstone_problem", name="source.away") is None, 40, "its end")


class Desk:
    """Hold an exporter without an agent."""

    def __init__(self, config: AgentConfig, outbox: Outbox) -> None:
        self.events, self.counters = Events(), Counters(outbox.stored_counts())
        report = ReportSources(outbox, self.counters, self.events, ModelSlot(), StillState)
        watch = MachineWatch(config, self.events)
        parts = CareParts(config, Heartbeat(), watch, report, lambda: False, StageTimes())
        self.sources = metric_sources(parts)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(config_of(tmp_path), Outbox(tmp_path / "outbox", DiskGuard(10**9, 0)))


def test_a_port_that_is_taken_is_told_and_stops_nothing(desk: Desk) -> None:
    """Two exporters on one port: the second agent inspects all the same."""
    settings = MetricsConfig(port=free_port())
    first = Exporter(settings, desk.sources, desk.events)
    first.start()
    second = Exporter(settings, desk.sources, desk.events)
    second.start()
    assert "metrics.failed" in desk.events.problems()
    second.stop()
    assert value(scrape(settings.port), "whetstone_broker_connected") == 0
    first.stop()


def test_a_hanging_disk_holds_one_scrape_and_not_all(desk: Desk) -> None:
    """While a scrape waits for the outbox, the next get an empty answer at once."""
    collector = AgentCollector(desk.sources)
    with desk.sources.outbox._lock:
        waiting = threading.Thread(target=lambda: list(collector.collect()), daemon=True)
        waiting.start()
        wait_until(lambda: collector._busy.locked(), 5, "the first scrape to wait")
        assert list(collector.collect()) == []
    waiting.join(5)
    assert list(collector.collect())


def test_names_follow_prometheus_and_are_documented(desk: Desk) -> None:
    """Base units, totals for counters, one prefix; and each name stands in the guide."""
    guide = (ROOT / "docs" / "edge.md").read_text()
    desk.events.set_problem("a.b", "c")
    desk.sources.times.note("total", 1.0)
    for family in AgentCollector(desk.sources).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.name.startswith("whetstone_")
        assert not family.name.endswith(("_ms", "_mb", "_percent"))
        assert f"`{name}" in guide, name
        assert family.documentation


def test_a_rate_is_over_the_last_seconds() -> None:
    """A count that begins anew, after a restart of what counts, gives no negative rate."""
    meter = RateMeter(10.0)
    assert meter.per_second() == 0.0
    for second in range(100):
        meter.sample(float(second), second * (10 if second < 50 else 20))
    assert meter.per_second() == 20.0
    meter.sample(101.0, 0)
    meter.sample(102.0, 5)
    assert meter.per_second() == 5.0


def test_counts_begin_with_the_process(tmp_path: Path) -> None:
    """A killed agent forgets its last seconds: a count that went back by 10 would be taken for 990 new ones."""
    port = free_port()
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    outbox.mark_done(
        "folder:frames", (), {"frames_inspected": 990, "output.gate.fired": 5, "outbox_lost": 2}, ()
    )
    desk = Desk(config_of(tmp_path), outbox)
    exporter = Exporter(MetricsConfig(port=port), desk.sources, desk.events)
    exporter.start()
    try:
        desk.counters.add("frames_inspected", 3)
        found = scrape(port)
    finally:
        exporter.stop()
    assert desk.counters.value("frames_inspected") == 993
    assert value(found, "whetstone_frames_inspected_total") == 3
    assert value(found, "whetstone_output_parts_total", output="gate", fate="fired") == 0
    # What a start finds damaged is news, so losses are counted on.
    assert value(found, "whetstone_examples_lost_total", reason="refused") == 2
