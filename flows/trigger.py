"""Decide whether a task should be retrained, record why or why not, and say so to Prefect.

The event is a hint that may be lost, so it is sent again while nobody has picked the work up. A run that
was judged and refused is not asked for again until as much has changed as a first run needs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session, aliased

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.judging import TriggerDecision
from flows.champion import champion_in
from flows.context import Context
from flows.database.schema import (
    LabelRow,
    OriginRow,
    RunRow,
    RunState,
    SampleRow,
    SnapshotMemberRow,
    TombstoneRow,
    TriggerRow,
)
from flows.errors import LabelsRefused
from flows.events import EventSink, PrefectEvents
from flows.labels.refused import refused_files
from flows.snapshots.lint import require_sound

log = logging.getLogger("whetstone.flows")

EVENT = "whetstone.labels.ready"
STALE_SECONDS = 120.0
"""An active run whose flow has not touched it for so long has lost its flow and is asked for again."""
EMIT_AGAIN = timedelta(seconds=30)
MAX_FAILURES = 3
RETRY_AFTER = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class LastRun:
    """Hold what is known of a task's newest run. `new_since` counts verified labels it did not have."""

    state: RunState
    idle_seconds: float
    attempts: int
    new_since: int


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """Hold what the decision rests on."""

    verified_new: int
    threshold: int
    has_start: bool
    labels_problem: str = ""
    """Why no snapshot could be cut; empty when one could."""
    last_run: LastRun | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether a run is asked for, and why."""

    asked: bool
    reason: str


def decide(facts: TriggerFacts) -> Verdict:
    """Decide whether to ask for a run. Pure."""
    if not facts.has_start:
        return Verdict(False, "there is neither a champion nor an origin to start from")
    run = facts.last_run
    if run is not None and run.state == "active":
        if run.idle_seconds < STALE_SECONDS:
            return Verdict(False, "a run is under way")
        return Verdict(True, "a run was left unfinished")
    if facts.verified_new < facts.threshold:
        return Verdict(False, f"{facts.verified_new} of {facts.threshold} verified new labels")
    if facts.labels_problem:
        return Verdict(False, facts.labels_problem)
    why_not = _held_back(run, facts.threshold) if run is not None and run.new_since < facts.threshold else ""
    if why_not:
        return Verdict(False, why_not)
    return Verdict(True, f"{facts.verified_new} verified new labels, {facts.threshold} are enough")


def _held_back(run: LastRun, threshold: int) -> str:
    """Say why nothing is asked for on nearly the data of the last run, "" when it is asked for again."""
    if run.state == "refused":
        return f"the last candidate was refused; {run.new_since} of {threshold} labels since"
    if run.state == "cancelled":
        return f"a person cancelled the last run; {run.new_since} of {threshold} labels since"
    if run.state == "failed" and run.attempts >= MAX_FAILURES:
        return f"the last run failed at attempt {run.attempts}; it waits for new labels"
    if run.state == "failed" and run.idle_seconds < RETRY_AFTER.total_seconds():
        return "the last run failed; it is tried again soon"
    return ""


def check_trigger(ctx: Context, task_id: str, now: datetime | None = None) -> TriggerDecision:
    """Decide for one task and record the decision when it differs from the last one (law 10)."""
    now = now or utc_now()
    settings = ctx.settings.task(task_id)
    refused = refused_files(ctx, task_id)
    with ctx.database.reader() as session:
        champion = champion_in(session, task_id)
        snapshot_id = None if champion is None else champion.snapshot_id
        facts = TriggerFacts(
            verified_new=count_new(session, task_id, snapshot_id),
            threshold=settings.trigger_threshold,
            has_start=champion is not None or _has_origin(session, task_id),
            labels_problem=_problem(
                refused, count_new(session, task_id, None), settings.max_refused_share, task_id
            ),
            last_run=_last_run(session, task_id, now),
        )
    verdict = decide(facts)
    decision = TriggerDecision(
        task_id=task_id,
        decided_at=now,
        asked=verdict.asked,
        verified_new=facts.verified_new,
        threshold=facts.threshold,
        reason=verdict.reason,
        champion_snapshot=snapshot_id,
    )
    _record(ctx, decision)
    return decision


def emit_ready(
    ctx: Context,
    decision: TriggerDecision,
    now: datetime | None = None,
    events: EventSink | None = None,
) -> bool:
    """Send the event that starts a run, at most once in `EMIT_AGAIN`; return whether it was sent."""
    now = now or utc_now()
    with ctx.database.session() as session:
        row = _newest(session, decision.task_id)
        if not decision.asked or row is None:
            return False
        if row.emitted_at is not None and now - row.emitted_at < EMIT_AGAIN:
            return False
        row.emitted_at, row.emitted = now, row.emitted + 1
    from flows.retrain.tiers import tier_now

    payload = {**decision.model_dump(mode="json"), "tier": tier_now(ctx, decision.task_id)}
    (events or PrefectEvents()).emit(EVENT, decision.task_id, payload)
    log.info("trigger.emitted task=%s reason=%s", decision.task_id, decision.reason)
    return True


def count_new(session: Session, task_id: str, snapshot_id: str | None) -> int:
    """Count samples whose newest label is verified, was made here, and is not in a snapshot."""
    newer = aliased(LabelRow)
    member = aliased(SnapshotMemberRow)
    query = (
        select(func.count())
        .select_from(LabelRow)
        .join(
            SampleRow, and_(SampleRow.task_id == LabelRow.task_id, SampleRow.sample_id == LabelRow.sample_id)
        )
        .where(
            LabelRow.task_id == task_id,
            LabelRow.verified.is_(True),
            LabelRow.imported.is_(False),
            ~select(newer.revision)
            .where(
                newer.task_id == LabelRow.task_id,
                newer.sample_id == LabelRow.sample_id,
                newer.revision > LabelRow.revision,
            )
            .exists(),
            LabelRow.sample_id.not_in(select(TombstoneRow.sample_id).where(TombstoneRow.task_id == task_id)),
        )
    )
    if snapshot_id is not None:
        query = query.where(
            ~select(member.sample_id)
            .where(
                member.task_id == task_id,
                member.snapshot_id == snapshot_id,
                member.sample_id == LabelRow.sample_id,
                member.revision == LabelRow.revision,
            )
            .exists()
        )
    return session.scalar(query) or 0


def _last_run(session: Session, task_id: str, now: datetime) -> LastRun | None:
    row = session.scalars(
        select(RunRow).where(RunRow.task_id == task_id).order_by(RunRow.started_at.desc()).limit(1)
    ).first()
    if row is None:
        return None
    return LastRun(
        state=row.state,
        idle_seconds=(now - max(row.touched_at, row.ended_at or row.touched_at)).total_seconds(),
        attempts=row.attempts,
        new_since=count_new(session, task_id, row.snapshot_id),
    )


def _problem(refused: list[tuple[str, str]], labelled: int, max_share: float, task_id: str) -> str:
    try:
        require_sound(refused, labelled, max_share, where=f"labels of task {task_id}")
    except LabelsRefused as error:
        return str(error)
    return ""


def _has_origin(session: Session, task_id: str) -> bool:
    return session.scalars(select(OriginRow.task_id).where(OriginRow.task_id == task_id)).first() is not None


def _newest(session: Session, task_id: str) -> TriggerRow | None:
    return session.scalars(
        select(TriggerRow).where(TriggerRow.task_id == task_id).order_by(TriggerRow.id.desc()).limit(1)
    ).first()


def _record(ctx: Context, decision: TriggerDecision) -> None:
    with ctx.database.session() as session:
        last = _newest(session, decision.task_id)
        if last is not None and _says_the_same(last, decision):
            return
        session.add(
            TriggerRow(
                task_id=decision.task_id,
                asked=decision.asked,
                verified_new=decision.verified_new,
                threshold=decision.threshold,
                reason=decision.reason,
                champion_snapshot=decision.champion_snapshot,
                decided_at=decision.decided_at,
                # A growing count is the same request: it must not send the event before its time.
                emitted_at=last.emitted_at if last is not None and last.asked else None,
                emitted=0,
            )
        )
    name = decision.decided_at.strftime("%Y%m%dT%H%M%S") + f"-{decision.verified_new}"
    ctx.store.put(keys.journal(decision.task_id, "triggers", name), encode(decision))


def _says_the_same(row: TriggerRow, decision: TriggerDecision) -> bool:
    return (
        row.asked == decision.asked
        and row.reason == decision.reason
        and row.champion_snapshot == decision.champion_snapshot
        and row.threshold == decision.threshold
    )
