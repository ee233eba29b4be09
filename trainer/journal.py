"""Keep a run's record and number its events, across restarts and machines.

Pure bookkeeping: documents in, documents out; `report_back` sends them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from fleet_contracts.base import utc_now
from fleet_contracts.training import (
    DataFlow,
    EpochMetrics,
    RunEvent,
    RunEventKind,
    RunRecord,
    TrainPlan,
    VramEstimate,
)
from trainer.backend_job import BackendEvent


class Journal:
    """Turn what children say into run events and one growing record.

    Args:
        plan: the run.
        record: the record an earlier attempt left, if any.
        next_event: number of the first event to hand out.
    """

    def __init__(self, plan: TrainPlan, record: RunRecord | None, next_event: int) -> None:
        self._plan = plan
        self._next_event = next_event
        self.record = record or RunRecord(
            task_id=plan.task_id, run_id=plan.run_id, snapshot_id=plan.snapshot_id, state="running",
            seed=plan.seed, versions={}, device="", started_at=utc_now(), vram=_vram_of(plan),
        )  # fmt: skip

    def event(self, kind: RunEventKind, epoch: int = 0, data: dict[str, JsonValue] | None = None) -> RunEvent:
        """Number a new event."""
        event = RunEvent(task_id=self._plan.task_id, run_id=self._plan.run_id, number=self._next_event,
                         at=utc_now(), kind=kind, epoch=epoch, data=data or {})  # fmt: skip
        self._next_event += 1
        return event

    def heard(self, told: BackendEvent, *, stage: int, late: bool = False) -> RunEvent:
        """Take down what a child said; epochs of later stages count on from those of earlier ones.

        An epoch undoes those after it, which are trained anew; one told `late` only takes its place.
        """
        assert told.kind != "checkpoint", "a kept part of an epoch is no event of the run"
        before = self._epochs_before(stage)
        event = self.event(told.kind, before + told.epoch, {**told.data, "stage": stage})
        changes: dict[str, object] = {}
        if told.kind == "started":
            changes = {"versions": dict(told.data["versions"]), "device": str(told.data["device"])}
        elif told.kind == "epoch":
            rows = self.record.epochs
            kept = [row for row in rows if row.epoch < event.epoch]
            after = [row for row in rows if late and row.epoch > event.epoch]
            changes = {"epochs": (*kept, _metrics(told, event.epoch), *after)}
        elif told.kind == "resumed":
            changes = {"resumes": (*self.record.resumes, event)}
        elif told.kind == "rung":
            changes = {"rungs": (*self.record.rungs, event)}
        elif told.kind in ("watch", "rollback"):
            changes = {"watch": (*self.record.watch, event)}
        self.record = self.record.model_copy(update=changes)
        return event

    def untold(self, said: Sequence[BackendEvent], *, stage: int) -> list[BackendEvent]:
        """Return what the record lacks of all that a stage's children said; rungs are the ladder's to tell.

        A parent that is killed takes with it what it had not read yet, and what it had not sent.
        """
        before = self._epochs_before(stage)
        rows = {row.epoch - before for row in self.record.epochs}
        known = Counter(map(_key, (*self.record.resumes, *self.record.watch)))
        standing = _standing(said)
        found = []
        for event in said:
            if event.kind == "epoch" and event.epoch not in rows and standing.get(event.epoch) is event:
                found.append(event)
            elif event.kind == "started" and not self.record.device:
                found = [one for one in found if one.kind != "started"] + [event]
            elif event.kind in ("resumed", "watch", "rollback"):
                key = _key(event, before, stage)
                if not known[key]:
                    found.append(event)
                known[key] -= known[key] > 0
        return found

    def _epochs_before(self, stage: int) -> int:
        return sum(one.epochs for one in self._plan.stages[:stage])

    def data_came(self, flow: DataFlow) -> None:
        """Take down how the data came; what an earlier attempt fetched on another machine counts too."""
        before = self.record.data_flow or DataFlow()
        total = DataFlow(
            cached_bytes=before.cached_bytes + flow.cached_bytes,
            fetched_bytes=before.fetched_bytes + flow.fetched_bytes,
            wait_seconds=round(before.wait_seconds + flow.wait_seconds, 3),
        )
        self.record = self.record.model_copy(update={"data_flow": total})

    def ended(self, *, failure: str = "") -> RunRecord:
        """Close the record."""
        state = "failed" if failure else "finished"
        self.record = self.record.model_copy(
            update={"state": state, "ended_at": utc_now(), "failure": failure}
        )
        return self.record


def _key(event: RunEvent | BackendEvent, before: int = 0, stage: int | None = None) -> str:
    data = event.data if stage is None else {**event.data, "stage": stage}
    return json.dumps([event.kind, before + event.epoch, data], sort_keys=True)


def _standing(said: Sequence[BackendEvent]) -> dict[int, BackendEvent]:
    """Return the epochs that no later going back undid, by number."""
    standing: dict[int, BackendEvent] = {}
    for event in said:
        if event.kind in ("epoch", "resumed", "rollback"):
            standing = {epoch: one for epoch, one in standing.items() if epoch <= event.epoch}
        if event.kind == "epoch":
            standing[event.epoch] = event
    return standing


def _metrics(told: BackendEvent, epoch: int) -> EpochMetrics:
    data = told.data
    now = data.get("settings") or {}
    batch = int(now.get("batch") or 0)
    return EpochMetrics(
        epoch=epoch, seconds=data["seconds"], images_per_second=data["images_per_second"],
        learning_rate=data["learning_rate"], losses=_numbers(data["losses"]),
        val=_numbers(data.get("val") or {}),
        peak_memory_bytes=data["peak_memory_bytes"], data_wait_share=data.get("data_wait_share", 0.0),
        utilisation=data.get("utilisation"), power_watts=data.get("power_watts"),
        image_size=int(now.get("image_size") or 0), batch=batch, accumulation=_accumulation(now, batch),
        workers=int(now.get("workers") or 0),
    )  # fmt: skip


def _numbers(told: dict[str, Any]) -> dict[str, float]:
    """Return those of the values that are numbers: a validation loss may be infinite."""
    return {name: value for name, value in told.items() if value is not None}


def _accumulation(now: dict[str, Any], batch: int) -> int:
    """Return the batches a step adds up; ultralytics tells the images of a step (`nbs`)."""
    told = now.get("accumulation") or now.get("accumulate")
    if told:
        return int(told)
    return max(round(int(now["nbs"]) / batch), 1) if now.get("nbs") and batch else 0


def _vram_of(plan: TrainPlan) -> VramEstimate | None:
    """Return what the plan expects of its hungriest stage."""
    stages = [stage.vram for stage in plan.stages if stage.vram is not None]
    return max(stages, key=lambda one: one.peak_bytes, default=plan.vram)
