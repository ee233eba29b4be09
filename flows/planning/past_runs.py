"""Read the finished runs of a task, newest first, for the planner to learn from."""

from __future__ import annotations

import logging

from sqlalchemy import select

from fleet_contracts import decode, keys
from fleet_contracts.errors import ContractError
from fleet_contracts.training import TrainPlan
from flows.context import Context
from flows.database.schema import RunRow
from flows.errors import StoreMissing
from flows.planning.lineage import lineage_of, record_of, smaller_network
from trainer.planning import Finished

log = logging.getLogger("whetstone.planning")

MOST_RUNS = 20
"""Runs read, two small objects each; older ones say little about machines and data of today."""


def finished_runs(ctx: Context, task_id: str) -> tuple[Finished, ...]:
    """Return plan and record of the newest runs that trained to their end, whatever the gate said."""
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(RunRow)
            .where(RunRow.task_id == task_id, RunRow.state.in_(("finished", "refused")))
            .order_by(RunRow.started_at.desc(), RunRow.run_id)
            .limit(MOST_RUNS)
        ).all()
    keys_of = {sha256: lineage_of(ctx, task_id, sha256).key for sha256 in {row.start_sha256 for row in rows}}
    found = (_read(ctx, row, keys_of[row.start_sha256]) for row in rows)
    return tuple(one for one in found if one is not None)


def _read(ctx: Context, row: RunRow, network_key: str) -> Finished | None:
    record = record_of(ctx, row.task_id, row.run_id)
    if record is None or record.state != "finished" or smaller_network(record):
        # A run that went down to a smaller network says nothing of this one.
        return None
    key = keys.run(row.task_id, row.run_id, "plan.json")
    try:
        plan = decode(TrainPlan, ctx.store.get(key), where=key)
    except (StoreMissing, ContractError) as error:
        log.warning("planning.run_unreadable run=%s error=%s", row.run_id, error)
        return None
    return Finished(network_key, plan, record)
