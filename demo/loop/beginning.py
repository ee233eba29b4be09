"""Gather when each part of a run's beginning ended: from database, Prefect, bucket and the cloud's books."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import urllib3
from sqlalchemy import select

from demo.report.overhead import Moments, Part, parts_of
from demo.report.rented import Span
from flows.context import Context
from flows.database.schema import RunRow, TriggerRow
from flows.tracking.story import Story

log = logging.getLogger("whetstone.demo")


def beginning_of_run(ctx: Context, story: Story, spans: tuple[Span, ...]) -> tuple[Part, ...]:
    """Return the parts of a run's beginning, none where one of them was not told."""
    with ctx.database.reader() as session:
        run = session.get(RunRow, story.run_id)
        query = select(TriggerRow).where(TriggerRow.task_id == story.task_id).order_by(TriggerRow.id)
        triggers = session.scalars(query).all()
    lease, span = story.leases[0], spans[0]
    # A second attempt has a flow of its own, and the first machine none of its doing.
    if (
        run is None
        or run.attempts > 1
        or span.booted_at is None
        or span.began is None
        or lease.asked_at is None
    ):
        return ()
    flow, tasks = _ask(ctx, "flow_runs", run.flow_run), _ask(ctx, "task_runs", run.flow_run)
    ended = {str(one["name"]).split("-")[0]: str(one["end_time"]) for one in tasks if one.get("end_time")}
    if len(flow) != 1 or not {"begin", "plan"} <= set(ended):
        return ()
    began = datetime.fromisoformat(flow[0]["start_time"])
    asked = asked_before(triggers, began)
    if asked is None:
        return ()
    moments = Moments(
        asked=asked,
        flow_made=datetime.fromisoformat(flow[0]["created"]),
        flow_began=began,
        run_opened=datetime.fromisoformat(ended["begin"]),
        planned=datetime.fromisoformat(ended["plan"]),
        leased=lease.recorded_at,
        ordered=span.ordered_at,
        booted=span.booted_at,
    )
    return parts_of(moments, span.began)


def asked_before(triggers: Any, moment: datetime) -> datetime | None:
    """Return when the last request before a moment was first made; one whose count only grew is the same."""
    found, asking = None, False
    for row in triggers:
        if row.decided_at > moment:
            break
        if row.asked and not asking:
            found = row.decided_at
        asking = row.asked
    return found


def _ask(ctx: Context, what: str, flow_run: str) -> list[dict[str, Any]]:
    """Return a flow run or its tasks as Prefect knows them; none where its server does not answer."""
    url = f"{ctx.settings.prefect.api_url}/{what}/filter"
    wanted = {"flow_runs": {"id": {"any_": [flow_run]}}}
    try:
        answer = urllib3.request("POST", url, json=wanted, timeout=10.0, retries=False)
        found: list[dict[str, Any]] = answer.json() if answer.status == 200 else []
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        log.warning("demo.prefect_does_not_answer error=%s", error)
        return []
    return found
