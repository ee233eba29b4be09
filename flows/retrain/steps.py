"""Do the steps of a retraining: plain functions that a flow, a test or a person at a console can call.

    begin     (1) an active run of the task goes on; else (2) are there enough new labels? (3) cut a snapshot,
              (4) choose the start, (5) open the run under the name of its inputs
    prepare   write the plan once; a deadline that passed is renewed where it bounds no bill
    train     a machine trains until the result lies in the bucket
    judge     collect the candidate, hear the gate
    release   sign, roll out, make champion

Each looks first whether its work was done, so a flow that was killed is started again and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fleet_contracts import decode, encode, keys, utc_now
from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.releases import Release, Rollout
from fleet_contracts.training import RunEvent, RunRecord, TrainPlan
from flows.context import Context
from flows.database.schema import ChampionRow, RunRow
from flows.errors import CannotStart, StoreMissing
from flows.gpus.guarding import Guard, entry_costs
from flows.gpus.leases import LeaseBook
from flows.gpus.money import Budget
from flows.gpus.providers import each_apart
from flows.planning.gather import Wanted, gather, offers_of
from flows.planning.lineage import record_of
from flows.retrain import candidates, promotion, runs, tickets
from flows.retrain.announce import announce
from flows.retrain.needs import LONGEST_RUN, costs_nothing, is_late
from flows.retrain.training import Ground, Training
from flows.snapshots.cut import cut_snapshot
from flows.snapshots.load import load_snapshot
from flows.tracking.place import tracking_of
from trainer.planning import make_plan, recipe_of
from trainer.planning.plan import TIER_HOURS

if TYPE_CHECKING:
    from flows.gpus.base import GpuProvider

log = logging.getLogger("whetstone.retrain")


@dataclass(frozen=True, slots=True)
class Begun:
    """Say which run is to be worked on, or why there is none."""

    run: RunRow | None
    reason: str


def begin(ctx: Context, task_id: str, *, force: bool = False) -> Begun:
    """Find or open the run to work on.

    Args:
        ctx: the installation.
        task_id: the task.
        force: open a run though the threshold was not reached; a person asked for it.

    Raises:
        CannotStart: nothing to train on, or nothing to start from.
        LabelsRefused: too many label files are refused.
    """
    # (1)
    active = runs.active_run(ctx, task_id)
    if active is not None:
        return Begun(active, "an earlier attempt goes on")
    # (2)
    reason = "asked for by a person" if force else _why_now(ctx, task_id)
    if not reason:
        return Begun(None, "no verified new labels past the threshold")
    # (3)
    snapshot = cut_snapshot(ctx, task_id)
    # (4)
    start = runs.choose_start(ctx, task_id)
    # (5)
    run = runs.open_run(ctx, task_id, snapshot.snapshot_id, start)
    if run.state != "active":
        return Begun(None, f"{run.run_id} of the same data was {run.state}: {run.reason}")
    return Begun(run, reason)


def prepare(ctx: Context, run: RunRow, *lenders: GpuProvider) -> TrainPlan:
    """Return the run's plan: the one in the bucket, or a new one written there.

    A plan for a machine that costs nothing gets a new deadline when its own has passed: the installation may
    have been switched off meanwhile. One for a rented machine never does, for its deadline bounds the bill.
    """
    key = keys.run(run.task_id, run.run_id, "plan.json")
    try:
        plan = decode(TrainPlan, ctx.store.get(key), where=key)
    except StoreMissing:
        plan = _plan(ctx, run, lenders)
        plan = plan.model_copy(update={"tracking": tracking_of(ctx, run.task_id, plan.offer)})
    else:
        if not (is_late(plan, utc_now()) and costs_nothing(plan.offer)):
            return plan
        log.info("retrain.deadline_renewed run=%s passed=%s", run.run_id, plan.deadline)
        plan = plan.model_copy(update={"deadline": _deadline(plan)})
    ctx.store.put(key, encode(plan))
    return plan


def train(ctx: Context, plan: TrainPlan, told: Callable[[RunEvent], None], *lenders: GpuProvider) -> None:
    """Return when the run's result lies in the bucket; raises as `Training.wait`."""
    snapshot = load_snapshot(ctx, plan.task_id, plan.snapshot_id)
    shards = tickets.shard_objects(
        {"sha256": shard.sha256, "size_bytes": shard.size_bytes} for shard in snapshot.shards
    )
    inputs = tickets.Inputs(shards, runs.start_with(ctx, plan.task_id, plan.start.sha256))
    book = LeaseBook(ctx.database)
    ground = Ground(
        {lender.name: lender for lender in lenders}, book, told,
        budget=budget_of(ctx, plan.task_id), guard=Guard(ctx, book),
        entry_of=entry_costs(ctx.settings, sum(shard.size_bytes for shard in snapshot.shards)),
    )  # fmt: skip
    Training(ctx, plan, inputs, ground).wait()


def budget_of(ctx: Context, task_id: str) -> Budget:
    """Return what one run of a task, and all runs of a month together, may cost."""
    money, limits = ctx.settings.money, ctx.settings.task(task_id).limits
    return Budget(limits.dollars or 0.0, money.per_month, money.warn_share)


def judge(ctx: Context, plan: TrainPlan) -> tuple[candidates.Collected, GateReport]:
    """Collect the run's candidate and return it with the gate's verdict."""
    from flows.retrain.judging import judge_candidate

    collected = candidates.collect(ctx, plan)
    return collected, judge_candidate(ctx, collected, load_snapshot(ctx, plan.task_id, plan.snapshot_id))


def release(
    ctx: Context, plan: TrainPlan, collected: candidates.Collected, gate: GateReport
) -> tuple[Release, Rollout]:
    """Sign the candidate into its channel and order the devices to take it."""
    from flows.retrain.judging import image_reader

    snapshot = load_snapshot(ctx, plan.task_id, plan.snapshot_id)
    shipped = collected.file_of(gate.candidate_model)
    winner = promotion.Winner(collected.candidate, gate, shipped, snapshot.members)
    images = image_reader(ctx, plan.task_id, collected.onnx.parent / "images")
    made = promotion.publish(ctx, winner, images)
    rollout = promotion.record_rollout(ctx, made, f"rollout-{plan.run_id}")
    announce(ctx, rollout)
    return made, rollout


def conclude(ctx: Context, gate: GateReport, made: Release, rollout: Rollout) -> ChampionRow | None:
    """Wait for the devices, then make the release's model the champion or withdraw it."""
    key = keys.candidate(gate.task_id, gate.candidate_id, "candidate.json")
    candidate = decode(Candidate, ctx.store.get(key), where=key)
    after = promotion.await_rollout(ctx, rollout.rollout_id)
    return promotion.conclude(ctx, candidate, made, after)


def record_of_run(ctx: Context, plan: TrainPlan) -> RunRecord | None:
    """Return how a run went, None where its trainer left no record that can be read."""
    return record_of(ctx, plan.task_id, plan.run_id)


def lenders_of(ctx: Context) -> tuple[GpuProvider, ...]:
    """Return everybody whose machines new runs may be planned for.

    Raises:
        CannotStart: nobody, since what the settings name cannot be set up.
    """
    known, broken = each_apart(ctx.folder, ctx.settings)
    found = tuple(one for one in known.values() if ctx.settings.train_here or one.traits.elsewhere)
    if not found and broken:
        raise CannotStart(
            expected="a provider that can be set up",
            got="; ".join(f"{name}: {why}" for name, why in broken.items()),
            where="whetstone.toml: providers", now="See 'whetstone gpus check'.",
        )  # fmt: skip
    return found


def providers_of(ctx: Context, plan: TrainPlan) -> tuple[GpuProvider, ...]:
    """Return everybody who may lend a machine to a run, the one it was planned for first.

    Raises:
        CannotStart: the plan's provider is not one of this installation's.
    """
    known, broken = each_apart(ctx.folder, ctx.settings)
    wanted = plan.offer.provider if plan.offer is not None else next(iter(known))
    if wanted not in known:
        raise CannotStart(
            expected=f"one of the providers {sorted(known)}",
            got=f"{wanted}: {broken.get(wanted, 'it is not among the settings')}",
            where=f"plan of {plan.run_id}",
            now="Set the provider up again; the plan stands, and what was trained is kept.",
        )  # fmt: skip
    # Where this machine is not to train, it still ends what it was given for the run before.
    rented = {lease.provider for lease in LeaseBook(ctx.database).live(run_id=plan.run_id)}
    others = (
        one for name, one in known.items()
        if name != wanted and (name in rented or ctx.settings.train_here or one.traits.elsewhere)
    )  # fmt: skip
    return (known[wanted], *others)


def _why_now(ctx: Context, task_id: str) -> str:
    from flows.trigger import check_trigger

    decision = check_trigger(ctx, task_id)
    return decision.reason if decision.asked else ""


def _plan(ctx: Context, run: RunRow, lenders: Sequence[GpuProvider]) -> TrainPlan:
    start = runs.start_with(ctx, run.task_id, run.start_sha256)
    snapshot = load_snapshot(ctx, run.task_id, run.snapshot_id)
    wanted = Wanted(run.run_id, snapshot, start, recipe_of(run.recipe))
    return make_plan(gather(ctx, run.task_id, wanted, offers_of(lenders)))


def _deadline(plan: TrainPlan) -> datetime:
    return utc_now() + min(timedelta(hours=TIER_HOURS[plan.tier]), LONGEST_RUN)
