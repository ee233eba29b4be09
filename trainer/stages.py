"""Run the stages of a plan one after the other, each in a child, each starting from the one before.

(1) Tell what children of an earlier parent said and the record lacks.
(2) Go on with the newest stage that has a checkpoint.
(3) Where it cannot be continued and what it started from is gone, go back to the stage before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet_contracts.base import utc_now
from fleet_contracts.training import TrainPlan
from trainer.backend import Stop, run_to_end
from trainer.backend_job import (
    CHECKPOINT_FILE,
    EVENTS_FILE,
    RESULT_FILE,
    BackendEvent,
    BackendJob,
    BackendResult,
)
from trainer.dataset import open_dataset
from trainer.errors import CheckpointLost, TrainerError
from trainer.following import said_so_far
from trainer.journal import Journal
from trainer.ladder import Ladder, Taken, expect_from_estimate, read_taken, taken_of_record
from trainer.memory import simulated_from_environment
from trainer.report_back import Reporter
from trainer.tracking.measures import of_stage
from trainer.watch.carry import workers_after

_NEVER: dict[str, Any] = {"smaller_models": ()}
"""What no run's policy allows: a fresh network is neither the champion nor a registered origin (law 5)."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """Hold what all stages of a run share."""

    plan: TrainPlan
    start: Path
    dataset: Path
    work_dir: Path
    journal: Journal
    reporter: Reporter
    stop: Stop
    beginning: Callable[[BackendEvent], dict[str, Any] | None] = lambda _event: None
    """Told every event of a child; returns what to tell of the run's beginning, once."""


def stage_folder(work_dir: Path, stage: int) -> Path:
    """Return the folder of one stage."""
    return work_dir / f"stage-{stage}"


def stage_checkpoint(work_dir: Path, stage: int) -> Path:
    """Return where a stage's child keeps its checkpoint."""
    return stage_folder(work_dir, stage) / CHECKPOINT_FILE


def run_stages(run: StageRun) -> BackendResult:
    """Train every stage that is not done yet and return the last one's result.

    Raises:
        BackendFailed: a child failed for good.
        TrainerError: the plan's deadline passed.
    """
    # (1)
    for stage in range(len(run.plan.stages)):
        _tell_untold(run, stage)
    _tell_no_smaller_model(run)
    while True:
        # (2)
        first = _first_open_stage(run)
        try:
            return _run_from(run, first)
        except CheckpointLost as error:
            # (3)
            stage_checkpoint(run.work_dir, first).unlink(missing_ok=True)
            why = f"{error}; what this stage started from is gone, so the stages before it are trained again"
            _tell(run, first, BackendEvent("watch", 0, {"kind": "checkpoint", "why": why}))


def stage_position(work_dir: Path, stages: int) -> tuple[int, int]:
    """Return the newest stage with a checkpoint in this folder and the epochs it has; (-1, 0) without one."""
    begun = [stage for stage in range(stages) if stage_checkpoint(work_dir, stage).is_file()]
    if not begun:
        return -1, 0
    said = said_so_far(stage_folder(work_dir, begun[-1]) / EVENTS_FILE)
    return begun[-1], next((one.epoch for one in reversed(said) if one.kind in ("epoch", "resumed")), 0)


def job_of(run: StageRun, stage: int, start: Path, *, must_resume: bool = False) -> BackendJob:
    """Return the work of one stage; `must_resume` says that `start` lends its shapes alone."""
    plan, step = run.plan, run.plan.stages[stage]
    return BackendJob.model_validate({
        "start": str(start), "dataset": run.dataset, "out": stage_folder(run.work_dir, stage),
        "class_names": plan.class_list.names, "image_size": step.image_size, "epochs": step.epochs,
        "batch": step.batch, "accumulation": step.accumulation or plan.accumulation,
        "augmentation": step.augmentation,
        "learning_rate": plan.learning_rate, "final_lr_share": plan.final_lr_share,
        "optimizer": plan.optimizer, "freeze_layers": plan.freeze_layers, "seed": plan.seed,
        "threads": plan.threads, "cache": plan.cache, "opset": plan.opset,
        "workers": workers_after(run.journal.record.watch, stage, plan.workers),
        "precision": "auto" if plan.amp else "fp32", "resume": True, "must_resume": must_resume,
        "export": stage == len(plan.stages) - 1, "lineage": f"{plan.run_id}/stage-{stage}",
        "precisions": plan.precisions, "format_seconds": plan.format_seconds,
        "watch": plan.watch,
        "devices": plan.devices, "compile": plan.compile, "deterministic": plan.deterministic,
        "validate_every": plan.validate_every, "checkpoint_minutes": plan.checkpoint_minutes,
        "tracking": of_stage(plan, stage), "simulated_memory": simulated_from_environment(),
    })  # fmt: skip


def ladder_of(run: StageRun, stage: int, job: BackendJob) -> Ladder:
    """Return how far a stage may step down, and what this and earlier ones have shown already."""
    estimate = run.plan.stages[stage].vram or run.plan.vram
    knows = estimate is not None and estimate.peak_bytes > 0 and job.simulated_memory is None
    return Ladder(
        policy=run.plan.memory_policy.model_copy(update=_NEVER),
        expect=expect_from_estimate(estimate, job) if estimate is not None and knows else None,
        images=open_dataset(run.dataset).train_images,
        told=taken_of_record(run.journal.record.rungs, stage),
        earlier=tuple(rung for before in range(stage) for rung in _taken(run, before)),
    )


def _first_open_stage(run: StageRun) -> int:
    """Return the newest stage that has a checkpoint; it continues from there without the stages before it.

    Its start weights then matter for their shapes alone, which the run's own start has too.
    """
    return max(stage_position(run.work_dir, len(run.plan.stages))[0], 0)


def _taken(run: StageRun, stage: int) -> tuple[Taken, ...]:
    """Return the rungs a stage has taken, here or on another machine."""
    return read_taken(stage_folder(run.work_dir, stage)) or taken_of_record(run.journal.record.rungs, stage)


def _run_from(run: StageRun, first: int) -> BackendResult:
    before = _result_of(run, first - 1) if first else None
    start = run.start if before is None else before.weights
    for stage in range(first, len(run.plan.stages)):
        lent = stage == first > 0 and before is None
        result = _result_of(run, stage) or _run_stage(run, stage, job_of(run, stage, start, must_resume=lent))
        start = result.weights
    return result


def _result_of(run: StageRun, stage: int) -> BackendResult | None:
    """Return what a stage that is done has left in this folder, if its weights are still there."""
    finished = stage_folder(run.work_dir, stage) / RESULT_FILE
    if not finished.is_file():
        return None
    result = BackendResult.model_validate_json(finished.read_bytes())
    return result if result.weights.is_file() else None


def _tell(run: StageRun, stage: int, event: BackendEvent, *, late: bool = False) -> None:
    run.reporter.event(run.journal.heard(event, stage=stage, late=late))
    run.reporter.record(run.journal.record)


def _tell_untold(run: StageRun, stage: int) -> None:
    """Tell what a parent that was killed had not read, or not sent, of what its children said."""
    said = said_so_far(stage_folder(run.work_dir, stage) / EVENTS_FILE)
    for event in run.journal.untold(said, stage=stage):
        _tell(run, stage, event, late=True)


def _tell_no_smaller_model(run: StageRun) -> None:
    """Say in the record that a smaller model is no rung of a run, where the plan's policy names one."""
    named = run.plan.memory_policy.smaller_models
    told = any(one.data.get("kind") == "policy" for one in run.journal.record.watch)
    if not named or told:
        return
    why = f"{', '.join(named)} would be a start that nobody registered (law 5): no rung leads to it"
    _tell(run, 0, BackendEvent("watch", 0, {"kind": "policy", "why": why}))


def _run_stage(run: StageRun, stage: int, job: BackendJob) -> BackendResult:
    stop = _Until(run.stop, run.plan.deadline)

    def listen(event: BackendEvent) -> None:
        if event.kind == "checkpoint":
            run.reporter.checkpoint(
                job.out / CHECKPOINT_FILE, stage=stage, epoch=event.epoch, record=run.journal.record
            )
            return
        begun = run.beginning(event)
        run.reporter.event(run.journal.heard(event, stage=stage))
        if begun is not None:
            run.reporter.event(run.journal.heard(BackendEvent("watch", 0, begun), stage=stage))
        if event.kind == "rung":
            run.reporter.record(run.journal.record)
        if event.kind == "epoch":
            run.reporter.checkpoint(
                job.out / CHECKPOINT_FILE, stage=stage, epoch=event.epoch, record=run.journal.record
            )

    try:
        return run_to_end(job, listen, stop=stop, ladder=ladder_of(run, stage, job))
    except TrainerError as error:
        if not stop.is_late():
            raise
        raise TrainerError(
            expected=f"the end of training by {run.plan.deadline}",
            got=f"stage {stage} unfinished",
            where=run.plan.run_id,
            now="Give the run a later deadline or fewer epochs.",
        ) from error


class _Until:
    """Be set when somebody asked to stop or the deadline has passed."""

    def __init__(self, asked: Stop, deadline: datetime | None) -> None:
        self._asked = asked
        self._deadline = deadline

    def is_set(self) -> bool:
        return self._asked.is_set() or self.is_late()

    def is_late(self) -> bool:
        return self._deadline is not None and utc_now() > self._deadline
