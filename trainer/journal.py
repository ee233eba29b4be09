"""Keep a run's record and number its events, across restarts and machines.

Pure bookkeeping: documents in, documents out; `report_back` sends them.
"""

from __future__ import annotations

from pydantic import JsonValue

from fleet_contracts.base import utc_now
from fleet_contracts.training import EpochMetrics, RunEvent, RunEventKind, RunRecord, TrainPlan
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
            seed=plan.seed, versions={}, device="", started_at=utc_now(),
        )  # fmt: skip

    def event(self, kind: RunEventKind, epoch: int = 0, data: dict[str, JsonValue] | None = None) -> RunEvent:
        """Number a new event."""
        event = RunEvent(task_id=self._plan.task_id, run_id=self._plan.run_id, number=self._next_event,
                         at=utc_now(), kind=kind, epoch=epoch, data=data or {})  # fmt: skip
        self._next_event += 1
        return event

    def heard(self, told: BackendEvent, *, stage: int) -> RunEvent:
        """Take down what a child said; epochs of later stages count on from those of earlier ones."""
        before = sum(one.epochs for one in self._plan.stages[:stage])
        event = self.event(told.kind, before + told.epoch, {**told.data, "stage": stage})
        changes: dict[str, object] = {}
        if told.kind == "started":
            changes = {"versions": dict(told.data["versions"]), "device": str(told.data["device"])}
        elif told.kind == "epoch":
            kept = [row for row in self.record.epochs if row.epoch < event.epoch]
            changes = {"epochs": (*kept, _metrics(told, event.epoch))}
        elif told.kind == "resumed":
            changes = {"resumes": (*self.record.resumes, event)}
        elif told.kind == "rung":
            changes = {"rungs": (*self.record.rungs, event)}
        elif told.kind in ("watch", "rollback"):
            changes = {"watch": (*self.record.watch, event)}
        self.record = self.record.model_copy(update=changes)
        return event

    def ended(self, *, failure: str = "") -> RunRecord:
        """Close the record."""
        state = "failed" if failure else "finished"
        self.record = self.record.model_copy(
            update={"state": state, "ended_at": utc_now(), "failure": failure}
        )
        return self.record


def _metrics(told: BackendEvent, epoch: int) -> EpochMetrics:
    data = told.data
    return EpochMetrics(epoch=epoch, seconds=data["seconds"], images_per_second=data["images_per_second"],
                        learning_rate=data["learning_rate"], losses=data["losses"],
                        peak_memory_bytes=data["peak_memory_bytes"])  # fmt: skip
