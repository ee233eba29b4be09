"""Tell the cloud what the box runs and how it fares: a report now and then, and a retained status.

The same document serves for both; the last will is one whose state is "offline". Each report is also
written beside the outbox, where `whetstone-agent status` reads it without asking the running agent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_agent import agent_version
from edge_agent import counters as names
from edge_agent.care.watch import Readings
from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.link.base import Link, Will
from edge_agent.metrics.rate import RateMeter
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox.outbox import Outbox
from edge_agent.redaction import redact
from edge_agent.status_file import REPORTS_PER_WRITE, StatusFile
from fleet_contracts import topics
from fleet_contracts.base import encode, utc_now
from fleet_contracts.releases import DeviceReport, DeviceState, Vitals

logger = logging.getLogger("whetstone.edge.reports")
MAX_PROBLEM_CHARS = 2000
STALLED_S = 10.0
"""A camera that gave nothing for so long is told as a problem; a folder may well be empty."""
LOOK_EVERY_S = 0.5


class UpdaterState(Protocol):
    """Be what the updater says of itself; `edge_agent.ota` has the real one."""

    @property
    def release_version(self) -> int:
        """Return the release whose model serves, 0 for none."""

    @property
    def model_id(self) -> str | None:
        """Return the serving model."""

    @property
    def state(self) -> DeviceState:
        """Return how the updater is doing."""

    @property
    def rollout_id(self) -> str:
        """Return the rollout of the last order, or ""."""

    @property
    def problem(self) -> str:
        """Return what went wrong last, or ""."""

    @property
    def metadata_expired(self) -> bool:
        """Tell whether the signed metadata has run out."""


@dataclass(frozen=True, slots=True)
class ReportSources:
    """Hold what a report is made from."""

    outbox: Outbox
    counters: Counters
    events: Events
    slot: ModelSlot
    updater: Callable[[], UpdaterState]
    camera_idle_s: Callable[[], float] | None = None
    """Of a camera that should never be silent; None for folders and files."""
    campaigns: Callable[[], dict[str, int]] = dict
    """Frames kept so far of every capture command that runs."""
    readings: Callable[[], Readings] = Readings
    pace: RateMeter = field(default_factory=RateMeter)
    """Sampled by the reporter's thread, read by whoever wants to know how fast the line is."""
    frame_ms: Callable[[], tuple[float, ...]] = tuple
    """Median and 99th percentile of the last frames, nothing when there were none."""
    late_ms: Callable[[], float | None] = lambda: None


def will_of(config: AgentConfig) -> Will:
    """Return the last will: the device is offline."""
    report = DeviceReport(
        task_id=config.task_id,
        device_id=config.device_id,
        reported_at=utc_now(),
        agent_version=agent_version(),
        state="offline",
        release_version=0,
    )
    return Will(topics.up(config.task_id, config.device_id, "status"), encode(report))


def build_report(config: AgentConfig, sources: ReportSources, *, offline: bool = False) -> DeviceReport:
    """Say how the box fares now."""
    updater, counters, serving = sources.updater(), sources.counters, sources.slot.current()
    problems = _problems(sources)
    if updater.problem and not any(updater.problem in text for text in problems):
        problems.insert(0, redact(updater.problem))
    return DeviceReport(
        task_id=config.task_id,
        device_id=config.device_id,
        reported_at=utc_now(),
        agent_version=agent_version(),
        state="offline" if offline else _state(updater, serving=serving is not None, problems=problems),
        release_version=serving.release_version if serving else 0,
        model_id=serving.model_id if serving else None,
        rollout_id=updater.rollout_id,
        frames_inspected=counters.value(names.INSPECTED),
        frames_dropped=counters.value(names.DROPPED),
        frames_unreadable=counters.value(names.UNREADABLE),
        parts=counters.with_prefix(names.PART),
        kept=counters.with_prefix(names.KEPT),
        outbox_waiting=sources.outbox.waiting(),
        outbox_lost=counters.value(names.LOST),
        receipts=counters.value(names.RECEIPTS),
        last_swap=sources.slot.swap_report(),
        metadata_expired=updater.metadata_expired,
        problem="; ".join(problems)[:MAX_PROBLEM_CHARS],
        campaigns=sources.campaigns(),
        outbox_evicted=counters.value(names.EVICTED),
        vitals=vitals_of(sources),
    )


def vitals_of(sources: ReportSources) -> Vitals:
    """Say what the box measures of itself."""
    readings, late_ms = sources.readings(), sources.late_ms()
    p50, p99 = (*sources.frame_ms(), None, None)[:2]
    return Vitals(
        frames_per_second=sources.pace.per_second(),
        frame_ms_p50=_rounded(p50),
        frame_ms_p99=_rounded(p99),
        sorter_late_ms_p99=_rounded(late_ms),
        hottest_celsius=_rounded(readings.machine.hottest),
        disk_free_bytes=readings.disk_free_bytes,
        outbox_bytes=sources.outbox.waiting_bytes(),
        clock_skew_s=_rounded(readings.clock_skew_s),
        certificate_days=_rounded(readings.certificate_days),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def problems_of(sources: ReportSources) -> dict[str, str]:
    """Return the problems that stand, by name, a silent camera among them."""
    standing = sources.events.problems()
    if sources.camera_idle_s is not None and sources.camera_idle_s() > STALLED_S:
        standing["source.stalled"] = f"no frame for {sources.camera_idle_s():.0f} s"
    return standing


def _problems(sources: ReportSources) -> list[str]:
    return [f"{name}: {text}" for name, text in sorted(problems_of(sources).items())]


def _state(updater: UpdaterState, *, serving: bool, problems: list[str]) -> DeviceState:
    """Choose one word: what the updater is doing goes before a problem elsewhere."""
    if updater.state in ("updating", "rolled_back"):
        return updater.state
    if not serving:
        return "starting"
    return "degraded" if problems or updater.state == "degraded" else "serving"


class Reporter:
    """Publish reports until it is stopped; also at once when the model, the updater or a problem changes."""

    def __init__(self, config: AgentConfig, link: Link, sources: ReportSources, status_file: Path) -> None:
        self._config = config
        self._link = link
        self._sources = sources
        self._status_file = StatusFile(status_file, REPORTS_PER_WRITE * config.report.every_s)
        self._wanted = threading.Event()
        self._told: tuple[object, ...] = ()

    def wake(self) -> None:
        """Report now."""
        self._wanted.set()

    def run(self, stop: threading.Event) -> None:
        """Report every `report.every_s` seconds; the body of the reporter's thread."""
        waited_s = self._config.report.every_s
        while not stop.is_set():
            self._sources.pace.sample(time.monotonic(), self._sources.counters.value(names.INSPECTED))
            try:
                if self._wanted.is_set() or waited_s >= self._config.report.every_s or self._has_changed():
                    self._wanted.clear()
                    self.report()
                    waited_s = 0.0
            except Exception as error:  # the thread's outer edge: a report that fails must not end reporting
                self._sources.events.note("report.failed", problem=f"{type(error).__name__}: {error}")
                logger.exception("report.failed")
                waited_s = 0.0
            step_s = min(LOOK_EVERY_S, self._config.report.every_s)
            stop.wait(step_s)
            waited_s += step_s

    def report(self, *, offline: bool = False) -> DeviceReport:
        """Publish one report and the retained status, and keep it in the status file."""
        report = build_report(self._config, self._sources, offline=offline)
        gist = self._gist()
        is_urgent, self._told = offline or gist != self._told, gist
        content = encode(report)
        self._publish("report", content, retain=False)
        self._publish("status", content, retain=True)
        try:
            self._status_file.keep(report, urgent=is_urgent)
        except OSError as error:
            self._sources.events.set_problem("report.status-file", str(error))
        else:
            self._sources.events.clear_problem("report.status-file")
        return report

    def _has_changed(self) -> bool:
        return self._gist() != self._told

    def _gist(self) -> tuple[object, ...]:
        """Return what the cloud should hear of without delay."""
        updater, serving = self._sources.updater(), self._sources.slot.current()
        return (
            updater.state,
            updater.rollout_id,
            updater.metadata_expired,
            updater.problem,
            serving.release_version if serving else 0,
            tuple(sorted(problems_of(self._sources))),
        )

    def _publish(self, kind: topics.UpKind, content: bytes, *, retain: bool) -> None:
        self._link.publish(
            topics.up(self._config.task_id, self._config.device_id, kind), content, retain=retain
        )
