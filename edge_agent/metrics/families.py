"""Turn what the agent counts into Prometheus families; docs/edge.md lists every name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from edge_agent import agent_version
from edge_agent import counters as names
from edge_agent.metrics.sources import MetricSources
from edge_agent.timings import STAGES

QUANTILES = (0.5, 0.9, 0.99)
SECONDS_PER_DAY = 86_400.0


def families(sources: MetricSources) -> Iterator[Metric]:
    """Give every family, in the order of the documentation."""
    yield from work(sources)
    yield from stages(sources)
    yield from outputs(sources)
    yield from examples(sources)
    yield from model(sources)
    yield from standing(sources)
    yield from machine(sources)
    for name, (words, read) in sources.gauges.items():
        yield gauge(name, words, read())
    for name, (words, count) in sources.counts.items():
        yield CounterMetricFamily(name, words, value=count())


def work(sources: MetricSources) -> Iterator[Metric]:
    """Give frames and parts."""
    counted = sources.counters.since_start()
    yield CounterMetricFamily("whetstone_frames_inspected", "Frames the model inspected.",
                              value=counted.get(names.INSPECTED, 0))  # fmt: skip
    yield CounterMetricFamily("whetstone_frames_dropped", "Frames nobody inspected.",
                              value=counted.get(names.DROPPED, 0))  # fmt: skip
    yield CounterMetricFamily("whetstone_frames_unreadable", "Files or frames that do not decode.",
                              value=counted.get(names.UNREADABLE, 0))  # fmt: skip
    yield CounterMetricFamily("whetstone_frames_faulty", "Frames that showed a fault of the camera.",
                              value=counted.get(names.FAULTY, 0))  # fmt: skip
    yield CounterMetricFamily("whetstone_parts_missed", "Triggered parts of which no frame came.",
                              value=counted.get(names.MISSED, 0))  # fmt: skip
    yield by_label(CounterMetricFamily("whetstone_parts", "Parts by verdict.", labels=["verdict"]),
                   under(counted, names.PART))  # fmt: skip
    yield gauge("whetstone_frames_per_second", "Frames per second over the last ten seconds.", sources.fps())


def stages(sources: MetricSources) -> Iterator[Metric]:
    """Give the latencies of the loop's stages."""
    found = GaugeMetricFamily("whetstone_stage_latency_seconds", "Of the last 1024 frames, by stage.",
                              labels=["stage", "quantile"])  # fmt: skip
    for stage in STAGES if sources.times.count else ():
        for quantile, value in zip(QUANTILES, sources.times.quantiles(stage, QUANTILES), strict=True):
            found.add_metric([stage, f"{quantile:g}"], value / 1000.0)
    yield found


def outputs(sources: MetricSources) -> Iterator[Metric]:
    """Give how late outputs fire, whether their devices answer, and what became of the parts."""
    late = GaugeMetricFamily("whetstone_output_lateness_seconds", "By which the last firings came too late.",
                             labels=["output", "quantile"])  # fmt: skip
    connected = GaugeMetricFamily(
        "whetstone_output_connected", "1 while the device answers.", labels=["output"]
    )
    for status in sources.outputs():
        connected.add_metric([status.name], status.connected)
        late.add_metric([status.name, "0.5"], status.late_p50_ms / 1000.0)
        late.add_metric([status.name, "0.99"], status.late_p99_ms / 1000.0)
    yield late
    yield connected
    fates = CounterMetricFamily("whetstone_output_parts", "Parts by output and what became of them.",
                                labels=["output", "fate"])  # fmt: skip
    for name, count in sorted(under(sources.counters.since_start(), names.OUTPUT).items()):
        output, _, fate = name.rpartition(".")
        fates.add_metric([output, fate], count)
    yield fates


def examples(sources: MetricSources) -> Iterator[Metric]:
    """Give what was kept, waits, was lost, and arrived."""
    counted, outbox = sources.counters.since_start(), sources.outbox
    yield by_label(CounterMetricFamily("whetstone_examples_kept", "Examples by why they were kept.",
                                       labels=["reason"]), under(counted, names.KEPT))  # fmt: skip
    # Since the outbox was made: what a start finds damaged must not begin at 0 with it.
    totals = sources.counters.with_prefix("")
    lost = {
        "evicted": totals.get(names.EVICTED, 0),
        "damaged": totals.get(names.DAMAGED, 0),
    }
    lost["refused"] = max(0, totals.get(names.LOST, 0) - sum(lost.values()))
    yield by_label(CounterMetricFamily("whetstone_examples_lost", "Examples that will not reach the cloud.",
                                       labels=["reason"]), lost)  # fmt: skip
    yield CounterMetricFamily("whetstone_receipts", "Examples the cloud has confirmed.",
                              value=counted.get(names.RECEIPTS, 0))  # fmt: skip
    yield CounterMetricFamily("whetstone_uploaded_bytes", "Of images and announcements the store has taken.",
                              value=counted.get(names.UPLOADED_BYTES, 0))  # fmt: skip
    waiting = GaugeMetricFamily(
        "whetstone_outbox_examples", "Examples that wait, by state.", labels=["state"]
    )
    yield by_label(waiting, {"waiting": 0, "granted": 0, "sent": 0, **outbox.states()})  # fmt: skip
    yield gauge("whetstone_outbox_bytes", "Bytes of examples that wait.", outbox.waiting_bytes())


def model(sources: MetricSources) -> Iterator[Metric]:
    """Give what serves and how the last swap went."""
    serving, swap, updater = sources.slot.current(), sources.slot.swap_report(), sources.updater()
    info = {"version": agent_version(), **sources.labels}
    yield InfoMetricFamily("whetstone_agent", "The agent.", value=info)
    yield gauge("whetstone_release_version", "Release that serves, 0 = none.",
                serving.release_version if serving else 0)  # fmt: skip
    served = {"model_id": serving.model_id} if serving else {"model_id": ""}
    yield InfoMetricFamily("whetstone_model", "The model that serves.", value=served)
    if swap is not None:
        yield gauge("whetstone_swap_gap_seconds", "A frame's wait for the last swap.", swap.gap_ms / 1000.0)
    yield gauge("whetstone_release_metadata_expired", "1 once the signed metadata has run out.",
                updater.metadata_expired)  # fmt: skip


def standing(sources: MetricSources) -> Iterator[Metric]:
    """Give problems, events, the link and the loop's sign of life."""
    problems = GaugeMetricFamily("whetstone_problem", "1 for every problem that stands.", labels=["name"])
    yield by_label(problems, dict.fromkeys(sources.problems(), 1))
    yield by_label(CounterMetricFamily("whetstone_events", "Events since the start, by name.",
                                       labels=["event"]), sources.events.counts())  # fmt: skip
    yield gauge("whetstone_broker_connected", "1 while the broker is connected.", sources.is_connected())
    yield CounterMetricFamily("whetstone_loop_turns", "Turns of the loop since the start.",
                              value=sources.heart.beats)  # fmt: skip
    now, engine_since = time.monotonic(), sources.heart.engine_since_mono
    yield gauge("whetstone_loop_silence_seconds", "Since the loop's last sign of life.",
                max(0.0, now - sources.heart.last_beat_mono))  # fmt: skip
    yield gauge("whetstone_engine_call_seconds", "Since the running engine call began, 0 = none runs.",
                max(0.0, now - engine_since) if engine_since else 0.0)  # fmt: skip


def machine(sources: MetricSources) -> Iterator[Metric]:
    """Give what the machine's sensors, disk, clock and certificate say; what is not known is left out."""
    readings = sources.readings()
    hot = GaugeMetricFamily("whetstone_temperature_celsius", "By sensor.", labels=["sensor"])
    yield by_label(hot, readings.machine.temperatures)
    power = GaugeMetricFamily("whetstone_power_watts", "By rail, through jetson-stats.", labels=["rail"])
    yield by_label(power, readings.machine.watts)
    known = (
        ("whetstone_disk_free_bytes", "Free on the disk of data_dir.", readings.disk_free_bytes, 1.0),
        ("whetstone_certificate_left_seconds", "Until the box's certificate runs out.",
         readings.certificate_days, SECONDS_PER_DAY),
        ("whetstone_clock_skew_seconds", "By which the clock is ahead of the release server's.",
         readings.clock_skew_s, 1.0),
    )  # fmt: skip
    for name, words, value, factor in known:
        if value is not None:
            yield gauge(name, words, value * factor)


def under(counted: Mapping[str, int], prefix: str) -> dict[str, int]:
    """Return the counts under a prefix, the prefix cut off."""
    return {name[len(prefix) :]: count for name, count in counted.items() if name.startswith(prefix)}


def gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    """Return a gauge without labels."""
    return GaugeMetricFamily(name, words, value=float(value))


def by_label(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]
) -> GaugeMetricFamily | CounterMetricFamily:
    """Add a sample per label; return the family."""
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family
