"""Write a run's ticket: presigned URLs for what the trainer may read and write, and for nothing else.

The ticket lies in the bucket, where the trainer reads it again before it ends, and in a file here, from which
a trainer is started. It is rewritten well before it ends, as long as a flow works on the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.training import TicketObject, TrainPlan, TrainTicket
from flows.context import Context
from flows.errors import CannotStart
from flows.files import write_file
from flows.retrain.runs import Start

LIFETIME = timedelta(hours=2)
RENEW_LIFETIME = timedelta(hours=24)
"""The URL of the ticket itself lives longer, so that a trainer finds a new one after the cloud was away."""
CLAIM_LIFETIME = LIFETIME
"""A machine is started with this URL alone, which its seller's console may show: it is short-lived."""
RENEW_BEFORE = LIFETIME / 2
_FRESH = timedelta(minutes=5)
_SPARE_EVENTS = 60
"""Event segments beyond two for each epoch: starts, resumes, memory rungs, export, end."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Hold what a ticket points at beside the plan."""

    shards: tuple[TicketObject, ...]
    start: Start


def write_ticket(
    ctx: Context, plan: TrainPlan, inputs: Inputs, *, now: datetime | None = None
) -> TrainTicket:
    """Write a fresh ticket to the bucket and to the file trainers are started with."""
    ticket = make_ticket(ctx, plan, inputs, now or utc_now())
    content = encode(ticket)
    ctx.store.put(keys.run(plan.task_id, plan.run_id, "ticket.json"), content)
    write_file(ticket_file(ctx, plan.run_id), content, mode=0o600)
    return ticket


def ticket_file(ctx: Context, run_id: str) -> Path:
    """Return the file a trainer is started with."""
    return ctx.folder / "work" / f"{run_id}.ticket.json"


def must_renew(ticket: TrainTicket, now: datetime) -> bool:
    """Tell whether a ticket has lived half its life."""
    return ticket.expires_at - now < RENEW_BEFORE


def has_aged(ticket: TrainTicket, now: datetime) -> bool:
    """Tell whether a ticket is too old to start a machine with, which may take its time to come up."""
    return ticket.expires_at - now < LIFETIME - _FRESH


def make_ticket(ctx: Context, plan: TrainPlan, inputs: Inputs, now: datetime) -> TrainTicket:
    """Sign a ticket."""
    task_id, run_id, store = plan.task_id, plan.run_id, ctx.store
    names = output_names(plan)
    weights = inputs.start.weights
    return TrainTicket(
        task_id=task_id,
        run_id=run_id,
        plan_url=store.presign_get(keys.run(task_id, run_id, "plan.json"), LIFETIME),
        manifest_url=store.presign_get(keys.snapshot_manifest(task_id, plan.snapshot_id), LIFETIME),
        shards=tuple(
            one.model_copy(update={"url": store.presign_get(keys.shard(task_id, one.sha256), LIFETIME)})
            for one in inputs.shards
        ),
        start_weights=TicketObject(
            name="start.pt",
            url=store.presign_get(weights.key, LIFETIME),
            sha256=weights.sha256,
            size_bytes=inputs.start.size_bytes,
        ),
        put_urls={name: store.presign_put(keys.run(task_id, run_id, name), LIFETIME) for name in names},
        get_urls={name: store.presign_get(keys.run(task_id, run_id, name), LIFETIME) for name in names},
        renew_url=store.presign_get(keys.run(task_id, run_id, "ticket.json"), RENEW_LIFETIME),
        claim_url=store.presign_get(keys.run(task_id, run_id, "ticket.json"), CLAIM_LIFETIME),
        expires_at=now + LIFETIME,
    )


def output_names(plan: TrainPlan) -> tuple[str, ...]:
    """Return every name a run may write: the fixed ones and as many event segments as it could need."""
    epochs = sum(stage.epochs for stage in plan.stages)
    events = min(keys.MAX_EVENT_SEGMENTS, 2 * epochs + _SPARE_EVENTS)
    return (*keys.RUN_OUTPUTS, *(keys.event_name(number) for number in range(events)))


def shard_objects(shards: Iterable[Any]) -> tuple[TicketObject, ...]:
    """Read the shards a snapshot row lists (`sha256`, `size_bytes`), still without URLs.

    Raises:
        CannotStart: a shard is not described as it should be.
    """
    try:
        return tuple(
            TicketObject(
                name=f"{one['sha256']}.tar", url="", sha256=one["sha256"], size_bytes=one["size_bytes"]
            )
            for one in shards
        )
    except (KeyError, TypeError) as error:
        raise CannotStart(
            expected="sha256 and size_bytes of every shard", got=repr(error), where="snapshot"
        ) from error
