"""Be the Prefect flow `retrain`: thin wiring around `steps`, with artifacts for people.

    prefect deployment run retrain/retrain -p task=plates

Every step may be killed at any point; the next run of the flow goes on (see `steps`). What is heavy is
imported inside the tasks, so that the process is up soon after the event.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run as this_run

if TYPE_CHECKING:
    from fleet_contracts.judging import GateReport
    from fleet_contracts.releases import Release, Rollout
    from fleet_contracts.training import RunEvent, TrainPlan
    from flows.context import Context
    from flows.database.schema import RunRow
    from flows.retrain.candidates import Collected
    from flows.retrain.steps import Begun

# Values passed between tasks hold open stores and database rows: Prefect must neither keep nor hash them.
_PLAIN: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}


@flow(name="retrain", flow_run_name="retrain-{task}", persist_result=False, validate_parameters=True)
def retrain(task: str, folder: str | None = None, force: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002
    """Retrain a task's model and bring it to the devices if the gate lets it pass.

    Args:
        task: the task.
        folder: the installation's folder; by default the one the services run in.
        force: train though the threshold of new labels was not reached.
    """
    from flows.context import open_context
    from flows.retrain.errors import AnotherAtWork
    from flows.retrain.runs import alone

    with open_context(installation(folder)) as ctx:
        try:
            with alone(ctx, task):
                return _work(ctx, task, force=force)
        except AnotherAtWork as error:
            get_run_logger().warning("%s", error)
            return {"outcome": "another at work"}


def installation(folder: str | None) -> Path:
    """Return the folder of the installation: the one named, else the services' own.

    Raises:
        SettingsError: none is named and no service environment says which.
    """
    from flows.errors import SettingsError

    named = folder or os.environ.get("WHETSTONE_FOLDER", "")
    if not named:
        raise SettingsError(
            expected="an installation's folder",
            got="neither the parameter 'folder' nor WHETSTONE_FOLDER",
            where="flow retrain",
            now="Pass folder=..., or start the worker with 'whetstone up'.",
        )
    return Path(named)


def _work(ctx: Context, task_id: str, *, force: bool) -> dict[str, str]:
    from flows.retrain.attempts import working
    from flows.retrain.runs import close_run
    from flows.tracking.mirror import mirrored_in_the_end

    begun = begin(ctx, task_id, force)
    run = begun.run
    if run is None:
        get_run_logger().info("nothing to do: %s", begun.reason)
        return {"outcome": "nothing to do", "reason": begun.reason}
    get_run_logger().info("%s: %s", run.run_id, begun.reason)
    mirrored = mirrored_in_the_end(ctx, task_id, run.run_id)
    with mirrored, working(ctx, run.run_id, str(this_run.get_id() or "")):
        plan = prepare(ctx, run)
        train(ctx, plan)
        collected, gate = judge(ctx, plan)
        if not gate.promoted:
            reason = failed_rules(gate)
            close_run(ctx, run.run_id, "refused", reason)
            return {"outcome": "refused", "run": run.run_id, "reason": reason}
        made, rollout = release(ctx, plan, collected, gate)
        crowned = conclude(ctx, gate, made, rollout)
        reason = f"release {made.version}" if crowned else "devices took the release back"
        close_run(ctx, run.run_id, "finished" if crowned else "refused", reason)
    return {"outcome": "released" if crowned else "rolled back", "run": run.run_id, "reason": reason}


@task(name="begin", task_run_name="begin-{task_id}", **_PLAIN)
def begin(ctx: Context, task_id: str, force: bool) -> Begun:  # noqa: FBT001
    """Find or open the run to work on."""
    from flows.retrain import steps

    return steps.begin(ctx, task_id, force=force)


@task(name="plan", **_PLAIN)
def prepare(ctx: Context, run: RunRow) -> TrainPlan:
    """Write the run's plan once, and show what was considered and why."""
    from flows.planning.pages import plan_page
    from flows.retrain import steps

    plan = steps.prepare(ctx, run, *steps.lenders_of(ctx))
    show(f"{plan.run_id}-plan", plan_page(plan), "What is trained, where, and why there")
    return plan


@task(name="train", **_PLAIN)
def train(ctx: Context, plan: TrainPlan) -> None:
    """Have the run trained and show how far it is."""
    from flows.planning.pages import outcome_page
    from flows.retrain import steps
    from flows.retrain.alarms import Alarms
    from flows.retrain.billing import billed
    from flows.retrain.progress import event_line
    from flows.retrain.showing import ProgressBar
    from flows.tracking.mirror import mirrored

    bar = ProgressBar(plan)
    alarms = Alarms(ctx, plan, show)
    log = get_run_logger()

    def told(event: RunEvent) -> None:
        log.info("%s", event_line(event))
        bar.heard(event)
        mirror.heard(event)
        alarms.heard(event)

    with billed(ctx, plan.task_id, plan.run_id), mirrored(ctx, plan.task_id, plan.run_id) as mirror:
        steps.train(ctx, plan, told, *steps.providers_of(ctx, plan))
    bar.finish()
    record = steps.record_of_run(ctx, plan)
    if record is not None:
        show(f"{plan.run_id}-outcome", outcome_page(plan, record), "Predicted and measured")


@task(name="judge", **_PLAIN)
def judge(ctx: Context, plan: TrainPlan) -> tuple[Collected, GateReport]:
    """Collect the candidate, hear the gate, and show every rule."""
    from flows.retrain import steps
    from flows.retrain.progress import gate_table

    collected, gate = steps.judge(ctx, plan)
    show(f"{plan.run_id}-gate", gate_table(gate), "The gate's verdict")
    return collected, gate


@task(name="release", **_PLAIN)
def release(ctx: Context, plan: TrainPlan, collected: Collected, gate: GateReport) -> tuple[Release, Rollout]:
    """Sign the release and order the devices to take it."""
    from flows.retrain import steps

    return steps.release(ctx, plan, collected, gate)


@task(name="conclude", **_PLAIN)
def conclude(ctx: Context, gate: GateReport, made: Release, rollout: Rollout) -> bool:
    """Wait for the devices; tell whether the release's model became champion."""
    from flows.retrain import steps

    return steps.conclude(ctx, gate, made, rollout) is not None


def show(key: str, page: str, description: str) -> None:
    """Show a page of Markdown with the flow's run."""
    from prefect.artifacts import create_markdown_artifact

    from flows.retrain.showing import unharmed

    with unharmed(key):
        create_markdown_artifact(page, key=key, description=description)


def failed_rules(gate: GateReport) -> str:
    """Say which rules a candidate broke."""
    from flows.retrain import promotion

    return promotion.failed_rules(gate)
