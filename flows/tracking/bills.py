"""Gather what every run of a task cost and brought, for reports."""

from __future__ import annotations

from datetime import datetime

from flows.context import Context
from flows.gpus.leases import MACHINE_ENDED
from flows.tracking.costs import RunCost
from flows.tracking.gather import known_runs, story_of
from flows.tracking.story import facts_of


def run_costs(ctx: Context, task_id: str, now: datetime) -> tuple[RunCost, ...]:
    """Return what a task's runs cost and brought, newest first."""
    found = []
    for run_id in known_runs(ctx, task_id):
        story = story_of(ctx, task_id, run_id)
        facts = facts_of(story, now)
        machines = [lease for lease in story.leases if lease.launched_at is not None]
        found.append(
            RunCost(
                run_id=run_id,
                state=facts.state,
                cost=facts.cost,
                saved=facts.saved,
                machines=len(machines),
                lost=sum(lease.end_reason == MACHINE_ENDED for lease in machines),
                cost_of_model=facts.cost_of_model,
                gain_points=facts.gain,
                cost_per_point=facts.cost_per_point,
            )
        )
    return tuple(found)
