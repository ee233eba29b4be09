"""Hold all that is known of one run, and work out what people ask about it: pure.

Documents of any age are taken: what an older trainer did not write is None here and "-" where it is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.training import EpochMetrics, Lease, RunEvent, RunRecord, TrainPlan, VramEstimate
from flows.gpus.money import cost_of_run
from flows.tracking.costs import Ran, cost_of_model, cost_per_point, gain_points, saved_by_spot


@dataclass(frozen=True, slots=True)
class Ledger:
    """Hold what the database knows of a run: its state over all attempts, and its release if it has one."""

    state: str
    reason: str
    snapshot_id: str
    attempts: int
    started_at: datetime
    ended_at: datetime | None
    release_version: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """Hold the documents and rows of one run; each may be missing. `problems` names those nobody can read."""

    task_id: str
    run_id: str
    plan: TrainPlan | None = None
    record: RunRecord | None = None
    candidate: Candidate | None = None
    gate: GateReport | None = None
    ledger: Ledger | None = None
    leases: tuple[Lease, ...] = ()
    problems: tuple[str, ...] = ()
    closed: tuple[Ran, ...] = ()
    """The task's closed runs, this one among them if it is: what a model cost is spread over them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what people ask about a run; None where nobody knows. Seconds, dollars, bytes, shares from 0 to 1.

    `seconds` is the epochs' own time, `elapsed` from the run's start to its end over all attempts;
    `images_per_second` is the median epoch's. `vram_seen` is the largest peak of any epoch on a GPU.
    """

    run_id: str
    task_id: str
    state: str
    reason: str
    snapshot_id: str
    started_at: datetime | None
    elapsed: float | None
    attempts: int | None
    epochs: int
    epochs_planned: int | None
    seconds: float | None
    images_per_second: float | None
    device: str
    cost: float | None
    cost_planned: float | None
    seconds_planned: float | None
    vram_planned: int | None
    vram_confirmed: bool
    vram_seen: int | None
    data_wait: float | None
    utilisation: float | None
    hit_rate: float | None
    rungs: tuple[str, ...]
    resumes: int
    watch: tuple[str, ...]
    verdict: str
    broken_rules: tuple[str, ...]
    release_version: int | None
    measures: dict[str, float]
    ships: str = ""
    """The number format that was promoted, where several were judged."""
    gain: float | None = None
    """Points of mAP50 on the validation images above the champion."""
    cost_per_point: float | None = None
    cost_of_model: float | None = None
    """Dollars of this run and of those since the model before; None for a run that brought no model."""
    saved: float = 0.0
    """Dollars that spot machines saved."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        started = self.started_at.isoformat() if self.started_at else None
        return {**asdict(self), "started_at": started}


def facts_of(story: Story, now: datetime) -> Facts:
    """Return what is known of a run at a moment."""
    plan, record, ledger = story.plan, story.record, story.ledger
    epochs = record.epochs if record else ()
    estimate = estimate_of(story)
    started = ledger.started_at if ledger else record.started_at if record else None
    predicted = plan.predicted if plan else None
    cost, gain = cost_of_run(story.leases, now), gain_points(story.gate.measures if story.gate else {})
    return Facts(
        run_id=story.run_id,
        task_id=story.task_id,
        state=_state(story),
        reason=(ledger.reason if ledger else "") or (record.failure if record else ""),
        snapshot_id=_snapshot(story),
        started_at=started,
        elapsed=_elapsed(story, started, now),
        attempts=ledger.attempts if ledger else None,
        epochs=max((one.epoch for one in epochs), default=0),
        epochs_planned=sum(stage.epochs for stage in plan.stages) if plan else None,
        seconds=sum(one.seconds for one in epochs) if epochs else None,
        images_per_second=_median([one.images_per_second for one in epochs]),
        device=device_of(story),
        cost=cost,
        cost_planned=predicted.cost if predicted else None,
        seconds_planned=predicted.seconds if predicted else None,
        vram_planned=estimate.peak_bytes if estimate else None,
        vram_confirmed=bool(estimate and estimate.confirmed),
        vram_seen=max((one.peak_memory_bytes for one in epochs), default=0) or None,
        data_wait=_data_wait(epochs),
        utilisation=_median([one.utilisation for one in epochs if one.utilisation is not None]),
        hit_rate=record.data_flow.hit_rate if record and record.data_flow else None,
        rungs=tuple(rung_line(event) for event in record.rungs) if record else (),
        resumes=len(record.resumes) if record else 0,
        watch=tuple(watch_line(event) for event in record.watch) if record else (),
        verdict=_verdict(story.gate),
        broken_rules=tuple(_broken(story.gate)),
        release_version=ledger.release_version if ledger else None,
        measures=dict(story.gate.measures) if story.gate else {},
        ships=_ships(story.gate),
        gain=gain,
        cost_per_point=cost_per_point(cost, gain),
        cost_of_model=cost_of_model(story.run_id, story.closed, now),
        saved=saved_by_spot(story.leases, now),
    )


def estimate_of(story: Story) -> VramEstimate | None:
    """Return the memory that was predicted: the record's, else the plan's, else its largest stage's."""
    plan = story.plan
    if story.record is not None and story.record.vram is not None:
        return story.record.vram
    if plan is None:
        return None
    stages = [stage.vram for stage in plan.stages if stage.vram is not None]
    return max(stages, key=lambda one: one.peak_bytes, default=plan.vram)


def device_of(story: Story) -> str:
    """Return what the run trained on, else what it was planned for."""
    if story.record is not None and story.record.device:
        return story.record.device
    offer = story.plan.offer if story.plan else None
    return f"{offer.gpu} (planned)" if offer else ""


def rung_line(event: RunEvent) -> str:
    """Return one line about a step down the memory ladder."""
    data = event.data
    changed = data.get("changed")
    changes = changed.items() if isinstance(changed, dict) else ()
    steps = ", ".join(
        f"{name} {old_new[0]} to {old_new[1]}"
        for name, old_new in changes
        if isinstance(old_new, list) and len(old_new) == 2
    )
    name, why = str(data.get("rung", "")), str(data.get("reason", ""))
    return f"epoch {event.epoch}: " + "; ".join(filter(None, [name, steps, why]))


def watch_line(event: RunEvent) -> str:
    """Return one line about what the watch found, or about a loss that was rolled back."""
    kind = str(event.data.get("kind", "")) or event.kind
    why = str(event.data.get("why") or event.data.get("reason") or "")
    return f"epoch {event.epoch}: {kind}" + (f": {why}" if why else "")


def _state(story: Story) -> str:
    if story.ledger is not None:
        return story.ledger.state
    return story.record.state if story.record else "planned"


def _snapshot(story: Story) -> str:
    if story.ledger is not None:
        return story.ledger.snapshot_id
    document = story.plan or story.record
    return document.snapshot_id if document else ""


def _elapsed(story: Story, started: datetime | None, now: datetime) -> float | None:
    if started is None:
        return None
    holder = story.ledger or story.record
    ended = holder.ended_at if holder else None
    if ended is None and _state(story) not in ("active", "running"):
        return None
    return ((ended or now) - started).total_seconds()


def _data_wait(epochs: Sequence[EpochMetrics]) -> float | None:
    """Return the share of step time spent waiting for data; 0 in every epoch means that nobody measured."""
    if not any(one.data_wait_share or one.utilisation is not None for one in epochs):
        return None
    seconds = sum(one.seconds for one in epochs)
    return sum(one.data_wait_share * one.seconds for one in epochs) / seconds if seconds else 0.0


def _verdict(gate: GateReport | None) -> str:
    if gate is None:
        return ""
    return "promoted" if gate.promoted else "refused"


def _ships(gate: GateReport | None) -> str:
    if gate is None or not gate.promoted or len(gate.variants) < 2:
        return ""
    return next((one.precision for one in gate.variants if one.model_id == gate.candidate_model), "")


def _broken(gate: GateReport | None) -> list[str]:
    found = gate.findings if gate else ()
    return [f"{one.rule}: expected {one.expected}, got {one.got}" for one in found if not one.passed]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
