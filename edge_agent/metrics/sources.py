"""Say what the exporter reads: plain values and callables that return at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_agent.care.heartbeat import Heartbeat
from edge_agent.care.watch import Readings
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox.outbox import Outbox
from edge_agent.outputs.status import OutputStatus
from edge_agent.reports import UpdaterState
from edge_agent.timings import StageTimes


@dataclass(frozen=True, slots=True)
class MetricSources:
    """Hold everything a scrape reads.

    Attributes:
        labels: of every installation: task and device.
        problems: that stand, by name, as the report tells them.
        fps: frames per second of late.
        times: of the loop's stages.
        outputs: how every output fares; nothing without a sorter.
        gauges: what other parts offer, by full metric name, with its help and how to read it.
        counts: likewise of what only grows; names without `_total`.
    """

    labels: Mapping[str, str]
    counters: Counters
    events: Events
    outbox: Outbox
    slot: ModelSlot
    updater: Callable[[], UpdaterState]
    heart: Heartbeat
    readings: Callable[[], Readings]
    problems: Callable[[], Mapping[str, str]]
    is_connected: Callable[[], bool]
    fps: Callable[[], float]
    times: StageTimes
    outputs: Callable[[], Sequence[OutputStatus]] = tuple
    gauges: Mapping[str, tuple[str, Callable[[], float]]] = field(default_factory=dict)
    counts: Mapping[str, tuple[str, Callable[[], int]]] = field(default_factory=dict)
