"""Gather the stories of runs: plan, record and verdict from the bucket, state and leases from the database.

A run that only the bucket knows, since the database was lost, is told as well.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import select

from fleet_contracts import decode, keys
from fleet_contracts.base import Value
from fleet_contracts.errors import ContractError
from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.training import RunRecord, TrainPlan
from flows.context import Context
from flows.database.schema import CandidateRow, RunRow
from flows.errors import StoreMissing
from flows.gpus.leases import LeaseBook
from flows.tracking.costs import closed_runs
from flows.tracking.errors import UnknownRun
from flows.tracking.story import Ledger, Story

D = TypeVar("D", bound=Value)
_NEAR = 5
_ROOM = 6
"""Known runs that are named when nothing is near to what was asked for."""


def story_of(ctx: Context, task_id: str, run_id: str) -> Story:
    """Return what is known of a run; documents that are missing or unreadable are told, not raised."""
    problems: list[str] = []

    def read(kind: type[D], key: str) -> D | None:
        try:
            return decode(kind, ctx.store.get(key), where=key)
        except StoreMissing:
            return None
        except ContractError as error:
            problems.append(str(error))
            return None

    plan = read(TrainPlan, keys.run(task_id, run_id, "plan.json"))
    record = read(RunRecord, keys.run(task_id, run_id, "run.json"))
    candidate = read(Candidate, keys.candidate(task_id, run_id, "candidate.json"))
    gate = read(GateReport, keys.candidate(task_id, run_id, "gate.json"))
    leases = LeaseBook(ctx.database).of_run(run_id)
    ledger = _ledger(ctx, run_id)
    closed = closed_runs(ctx, task_id) if ledger is not None and ledger.state == "finished" else ()
    return Story(task_id, run_id, plan, record, candidate, gate, ledger, leases, tuple(problems), closed)


def known_runs(ctx: Context, task_id: str) -> tuple[str, ...]:
    """Return the names of a task's runs, newest first; those the database does not know come last."""
    with ctx.database.reader() as session:
        order = (RunRow.started_at.desc(), RunRow.run_id)
        query = select(RunRow.run_id).where(RunRow.task_id == task_id).order_by(*order)
        rows = list(session.scalars(query))
    known = set(rows)
    prefix = keys.run(task_id, "", "").rstrip("/") + "/"
    kept = {info.key.removeprefix(prefix).split("/", 1)[0] for info in ctx.store.list(prefix)}
    return (*rows, *sorted(kept - known))


def find_run(ctx: Context, name: str, tasks: Iterable[str] | None = None) -> Story:
    """Return the run of a name, or of the only one that begins with it, in any task.

    Raises:
        UnknownRun: no run, or several, of that name; near ones are named.
    """
    known = {run: task for task in sorted(tasks or ctx.settings.tasks) for run in known_runs(ctx, task)}
    begun = [run for run in known if name and (run == name or run.startswith((name, f"run-{name}")))]
    chosen = name if name in known else begun[0] if len(begun) == 1 else None
    if chosen is None:
        raise _unknown(name, list(known), begun)
    return story_of(ctx, known[chosen], chosen)


def _unknown(name: str, known: list[str], begun: list[str]) -> UnknownRun:
    near = begun or difflib.get_close_matches(name, known, n=_NEAR, cutoff=0.5)
    if near:
        expected = f"the name of one run, such as {', '.join(near[:_NEAR])}"
    elif known:
        expected = f"one of the runs {', '.join(known[:_ROOM])}{' ...' if len(known) > _ROOM else ''}"
    else:
        expected = "a run"
    return UnknownRun(
        expected=expected,
        got=f"{name!r}, with which {len(begun)} begin" if len(begun) > 1 else repr(name),
        where="runs of this installation" if known else "an installation without a run",
        now="See 'whetstone runs list'." if known else "Start one with 'whetstone retrain'.",
    )


def _ledger(ctx: Context, run_id: str) -> Ledger | None:
    with ctx.database.reader() as session:
        row, candidate = session.get(RunRow, run_id), session.get(CandidateRow, run_id)
    if row is None:
        return None
    return Ledger(
        state=row.state,
        reason=row.reason,
        snapshot_id=row.snapshot_id,
        attempts=row.attempts,
        started_at=row.started_at,
        ended_at=row.ended_at,
        release_version=candidate.release_version if candidate else None,
    )
