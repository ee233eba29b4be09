"""Tell how the training went: what was weighed, predicted and measured, and which files were judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from demo.report.page import Table
from fleet_contracts.judging import GateReport, VariantVerdict
from fleet_contracts.training import Considered, EpochMetrics, RunEvent, RunRecord, TrainPlan, VramEstimate
from flows.retrain.progress import event_words

_MIB = 2**20
_MOST_ROWS = 8


def training_tables(
    plan: TrainPlan | None, record: RunRecord | None, gate: GateReport | None
) -> tuple[Table, ...]:
    """Return the tables there is something to fill with."""
    tables = []
    if plan is not None and plan.considered:
        tables.append(_plan_table(plan))
    if plan is not None and record is not None:
        tables.append(_run_table(plan, record))
    if record is not None and (record.rungs or record.resumes or record.watch):
        tables.append(_incident_table(record))
    if gate is not None and gate.variants:
        tables.append(_variant_table(gate))
    return tuple(tables)


def _plan_table(plan: TrainPlan) -> Table:
    head = ("machine", "batch", "memory", "images/s", "time", "cost", "verdict")
    chosen_first = sorted(plan.considered, key=lambda one: not one.chosen)
    return Table("The plan: what was weighed", head, tuple(map(_weighed, chosen_first[:_MOST_ROWS])))


def _weighed(one: Considered) -> tuple[str, ...]:
    kind = ", spot" if one.spot else ""
    place = one.provider or one.gpu
    # A seller's offers are told apart by name; this machine has one processor.
    where = f"{place} {one.offer_id}{kind}" if one.cost else place
    machine = f"{one.gpu_count} x {one.gpu}{kind}" if one.gpu_count else f"{where}, no GPU"
    return (
        machine,
        f"{one.batch} x {one.accumulation}" if one.batch else "-",
        f"{one.peak_bytes / _MIB:.0f} MiB" if one.peak_bytes else "-",
        f"{one.images_per_second:.1f}" if one.images_per_second else "-",
        f"{one.seconds:.0f} s" if one.seconds else "-",
        "unknown" if one.cost is None else f"${one.cost:.2f}",
        f"chosen: {one.why}" if one.chosen else one.why,
    )


def _run_table(plan: TrainPlan, record: RunRecord) -> Table:
    epochs, predicted = record.epochs, plan.predicted
    ended = record.ended_at or record.started_at
    pace = _mean(one.images_per_second for one in epochs)
    busy = [one.utilisation for one in epochs if one.utilisation is not None]
    rows = [
        ("seconds", f"{predicted.seconds:.0f}" if predicted else "-",
         f"{(ended - record.started_at).total_seconds():.0f}"),
        ("images a second", f"{predicted.images_per_second:.1f}" if predicted else "-", f"{pace:.1f}"),
        ("peak memory of a GPU", _expected(plan.vram), _seen(epochs)),
        ("share of the time waited for data", "-", f"{_mean(one.data_wait_share for one in epochs):.1%}"),
        ("share of the time the cores or the GPU worked", "-", f"{fmean(busy):.0%}" if busy else "-"),
    ]  # fmt: skip
    if record.data_flow is not None:
        rows.append(("bytes that were in the cache already", "-", f"{record.data_flow.hit_rate:.0%}"))
    rows += [
        ("steps down for want of memory", "-", str(len(record.rungs))),
        ("resumes", "-", str(len(record.resumes))),
    ]
    return Table("The training: predicted and measured", ("what", "predicted", "measured"), tuple(rows))


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return fmean(numbers) if numbers else 0.0


def _expected(estimate: VramEstimate | None) -> str:
    if estimate is None:
        return "-"
    confirmed = "" if estimate.confirmed else ", not confirmed"
    return f"{estimate.peak_bytes / _MIB:.0f} MiB in {estimate.moment or 'the step'}{confirmed}"


def _seen(epochs: Sequence[EpochMetrics]) -> str:
    peak = max((one.peak_memory_bytes for one in epochs), default=0)
    return f"{peak / _MIB:.0f} MiB" if peak else "no GPU"


def _incident_table(record: RunRecord) -> Table:
    events = sorted((*record.rungs, *record.resumes, *record.watch), key=lambda event: event.number)
    rows = tuple((event.kind, str(event.epoch), _told(event)) for event in events[:_MOST_ROWS])
    return Table("What happened on the way", ("what", "epoch", "said"), rows)


def _told(event: RunEvent) -> str:
    return event_words(event) or "went on from the last checkpoint"


def _variant_table(gate: GateReport) -> Table:
    head = ("format", "verdict", "mAP50 on validation", "escapes per 1,000", "ms a frame", "said")
    rows = tuple(
        (
            one.precision,
            _verdict(one, gate),
            _measure(one.measures, "candidate.val_map50", "{:.3f}"),
            _measure(one.measures, "candidate.escapes_per_1000", "{:.1f}"),
            _measure(one.measures, "candidate.latency_p50_ms", "{:.1f}"),
            one.why,
        )
        for one in gate.variants
    )  # fmt: skip
    return Table("Number formats, each judged as the file it is", head, rows)


def _verdict(one: VariantVerdict, gate: GateReport) -> str:
    if not all(finding.passed for finding in one.findings):
        return "refused"
    return "ships" if gate.promoted and one.model_id == gate.candidate_model else "passed"


def _measure(measures: dict[str, float], name: str, form: str) -> str:
    return form.format(measures[name]) if name in measures else "-"
