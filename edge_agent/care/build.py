"""Put together what watches over the agent: watchdog, machine watch, metrics; started and stopped as one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.care.heartbeat import Heartbeat
from edge_agent.care.watch import MachineWatch
from edge_agent.care.watchdog import Watchdog, build_watchdog
from edge_agent.config import AgentConfig
from edge_agent.metrics.sources import MetricSources
from edge_agent.outputs.status import OutputStatus
from edge_agent.priority import in_background
from edge_agent.reports import ReportSources, problems_of
from edge_agent.timings import StageTimes


@dataclass(frozen=True, slots=True)
class CareParts:
    """Hold what is watched and read; see `MetricSources` for the optional ones."""

    config: AgentConfig
    heart: Heartbeat
    watch: MachineWatch
    report: ReportSources
    is_connected: Callable[[], bool]
    times: StageTimes
    outputs: Callable[[], Sequence[OutputStatus]] = tuple
    gauges: Mapping[str, tuple[str, Callable[[], float]]] = field(default_factory=dict)
    counts: Mapping[str, tuple[str, Callable[[], int]]] = field(default_factory=dict)


class Care:
    """Watch over the agent from the first turn of its loop to its stop."""

    def __init__(self, parts: CareParts) -> None:
        self._parts = parts
        self._stop = threading.Event()
        events = parts.report.events
        self.watchdog: Watchdog = build_watchdog(parts.config.care, parts.heart, events, self._in_a_word)
        look = in_background(parts.watch.run)
        self._thread = threading.Thread(target=look, args=(self._stop,), name="watch", daemon=True)
        self._exporter = None
        if parts.config.metrics.port:
            from edge_agent.metrics.exporter import Exporter

            self._exporter = Exporter(parts.config.metrics, metric_sources(parts), events)

    def start(self) -> None:
        """Begin to watch; call when the loop has been started."""
        self.watchdog.start()
        self._thread.start()
        if self._exporter is not None:
            self._exporter.start()

    def stop(self) -> None:
        """Say that the agent ends, and watch no more; waits for nothing longer than half a second."""
        self._stop.set()
        self.watchdog.stop()
        if self._exporter is not None:
            self._exporter.stop()

    def _in_a_word(self) -> str:
        """Say for `systemctl status` what serves, how fast, and what stands against it."""
        report = self._parts.report
        serving, problems = report.slot.current(), sorted(problems_of(report))
        words = f"release {serving.release_version}" if serving else "no model yet"
        words += f", {report.pace.per_second():.1f} frames/s"
        return words + (f"; problems: {', '.join(problems)}" if problems else "")


def metric_sources(parts: CareParts) -> MetricSources:
    """Return what a scrape reads."""
    report, config = parts.report, parts.config
    return MetricSources(
        labels={"task_id": config.task_id, "device_id": config.device_id},
        counters=report.counters,
        events=report.events,
        outbox=report.outbox,
        slot=report.slot,
        updater=report.updater,
        heart=parts.heart,
        readings=parts.watch.readings,
        problems=lambda: problems_of(report),
        is_connected=parts.is_connected,
        fps=report.pace.per_second,
        times=parts.times,
        outputs=parts.outputs,
        gauges=parts.gauges,
        counts=parts.counts,
    )
