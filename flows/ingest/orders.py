"""Tell devices which release they should run, and follow rollouts by what devices report.

The rules are `flows.rollouts.rules`; this file reads and writes the database and the link around them.
"""

from __future__ import annotations

import logging

from sqlalchemy import select

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.messages import OrderRequest
from fleet_contracts.releases import Rollout
from flows.context import Context
from flows.database.schema import RolloutRow
from flows.ingest.devices import reports_of
from flows.ingest.link import CloudLink
from flows.releases.repository import ReleaseRepository
from flows.rollouts.orders import publish_orders
from flows.rollouts.rules import ENDED_STATES, advance

log = logging.getLogger("whetstone.flows")


def answer(ctx: Context, link: CloudLink, request: OrderRequest) -> None:
    """Send a device its order again; a device no rollout names takes its channel's latest by itself."""
    wanted = desired(ctx, request.task_id).get(request.device_id)
    if wanted is not None and wanted.channel == request.channel:
        publish_orders(link, wanted.model_copy(update={"devices": (request.device_id,)}))


def republish(ctx: Context, link: CloudLink) -> None:
    """Send every device its order again: a broker may forget what it retained (law 1)."""
    for task_id in ctx.settings.tasks:
        for device_id, rollout in desired(ctx, task_id).items():
            publish_orders(link, rollout.model_copy(update={"devices": (device_id,)}))


def desired(ctx: Context, task_id: str) -> dict[str, Rollout]:
    """Return, by device, the newest rollout that names it; one that ended badly orders nothing."""
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(RolloutRow)
            .where(RolloutRow.task_id == task_id)
            .order_by(RolloutRow.started_at, RolloutRow.rollout_id)
        ).all()
    newest: dict[str, Rollout] = {}
    for row in rows:
        newest.update(dict.fromkeys(row.devices, rollout_of(row)))
    return {device: found for device, found in newest.items() if found.state not in ("rolled_back", "failed")}


def follow(ctx: Context) -> list[Rollout]:
    """Bring rollouts on by what devices reported; return those that ended just now."""
    ended: list[Rollout] = []
    for task_id in ctx.settings.tasks:
        if not _open_rollouts(ctx, task_id):
            continue
        reports = tuple(reports_of(ctx, task_id).values())
        # Read and written in one transaction, since the flow follows its rollout too.
        with ctx.database.session() as session:
            for row in session.scalars(select(RolloutRow).where(RolloutRow.task_id == task_id)):
                before = rollout_of(row)
                after = advance(before, reports, utc_now())
                if after == before:
                    continue
                row.state, row.reason, row.ended_at = after.state, after.reason, after.ended_at
                if after.state in ENDED_STATES:
                    ended.append(after)
    for rollout in ended:
        ctx.store.put(keys.journal(rollout.task_id, "rollouts", rollout.rollout_id), encode(rollout))
        log.info("rollout.ended rollout=%s state=%s", rollout.rollout_id, rollout.state)
    return ended


def taken_back(ctx: Context) -> list[Rollout]:
    """Return the rollouts of every task that devices rolled back, oldest first."""
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(RolloutRow)
            .where(RolloutRow.task_id.in_(ctx.settings.tasks), RolloutRow.state == "rolled_back")
            .order_by(RolloutRow.started_at, RolloutRow.rollout_id)
        ).all()
    return [rollout_of(row) for row in rows]


def withdraw(ctx: Context, rollout: Rollout) -> bool:
    """Take a rollout's release off its channel, unless it is the only one left; tell whether that was done.

    Raises:
        KeysMissing, RepositoryDamaged, ChannelUnknown: the channel's signed policy cannot be used.
    """
    repository = ReleaseRepository(ctx.store, ctx.path(ctx.settings.releases.keys_folder))
    current = repository.channel_policy(rollout.task_id, rollout.channel)
    if current is None or rollout.release_version not in current.allowed or len(current.allowed) < 2:
        return False
    repository.withdraw(rollout.task_id, rollout.channel, rollout.release_version)
    return True


def rollout_of(row: RolloutRow) -> Rollout:
    """Return a row as the document it holds."""
    return Rollout(
        task_id=row.task_id,
        rollout_id=row.rollout_id,
        channel=row.channel,
        release_version=row.release_version,
        model_id=row.model_id,
        devices=tuple(row.devices),
        state=row.state,
        started_at=row.started_at,
        ended_at=row.ended_at,
        reason=row.reason,
    )


def _open_rollouts(ctx: Context, task_id: str) -> bool:
    with ctx.database.reader() as session:
        states = session.scalars(select(RolloutRow.state).where(RolloutRow.task_id == task_id))
        return any(state not in ENDED_STATES for state in states)
