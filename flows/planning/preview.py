"""Say what would be planned for a task now; nothing is written and nothing is rented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_contracts import decode, keys, run_id_of
from fleet_contracts.training import GpuOffer, TrainPlan
from flows.context import Context
from flows.database.schema import RunRow
from flows.errors import StoreMissing
from flows.gpus.base import GpuProvider
from flows.planning.gather import Wanted, gather, offers_of
from flows.retrain import runs
from flows.snapshots.cut import draft_snapshot
from flows.snapshots.load import load_snapshot
from trainer.errors import TrainerError
from trainer.planning import PlanInputs, make_plan, recipe_of


@dataclass(frozen=True, slots=True)
class Preview:
    """Hold a plan, or why there is none; `written` tells that it is the plan of a run that goes on."""

    inputs: PlanInputs
    plan: TrainPlan | None = None
    refused: TrainerError | None = None
    written: bool = False


def preview(
    ctx: Context, task_id: str, lenders: Sequence[GpuProvider], imagined: Sequence[GpuOffer] = ()
) -> Preview:
    """Return what a run started now would be, on the providers' offers or on imagined ones.

    Raises:
        CannotStart: nothing to train on, to start from, or on offer.
        LabelsRefused: too many label files are refused.
    """
    active = runs.active_run(ctx, task_id)
    wanted = _wanted(ctx, task_id) if active is None else _wanted_of(ctx, active)
    inputs = gather(ctx, task_id, wanted, tuple(imagined) or offers_of(lenders), trace=True)
    known = None if active is None or imagined else _written(ctx, active)
    if known is not None:
        return Preview(inputs, known, written=True)
    try:
        return Preview(inputs, make_plan(inputs))
    except TrainerError as error:
        return Preview(inputs, refused=error)


def _wanted(ctx: Context, task_id: str) -> Wanted:
    snapshot = draft_snapshot(ctx, task_id)
    start = runs.choose_start(ctx, task_id)
    recipe = ctx.settings.task(task_id).recipe.naming()
    run_id = run_id_of(
        task_id=task_id, snapshot_id=snapshot.snapshot_id, start_sha256=start.weights.sha256, recipe=recipe
    )
    return Wanted(run_id, snapshot, start, recipe_of(recipe))


def _wanted_of(ctx: Context, run: RunRow) -> Wanted:
    start = runs.start_with(ctx, run.task_id, run.start_sha256)
    return Wanted(run.run_id, load_snapshot(ctx, run.task_id, run.snapshot_id), start, recipe_of(run.recipe))


def _written(ctx: Context, run: RunRow) -> TrainPlan | None:
    key = keys.run(run.task_id, run.run_id, "plan.json")
    try:
        return decode(TrainPlan, ctx.store.get(key), where=key)
    except StoreMissing:
        return None
