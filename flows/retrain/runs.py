"""Open, touch and close the record of a run: one name, any number of attempts.

A task has at most one active run. A flow that starts first looks for it and goes on with it, so that what
was trained is finished before new labels open another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select

from fleet_contracts import keys, run_id_of, utc_now
from fleet_contracts.training import StartWeights
from flows.champion import champion, origins
from flows.context import Context
from flows.database.schema import ChampionRow, OriginRow, RunRow
from flows.errors import CannotStart, FlowsError
from flows.retrain.errors import AnotherAtWork
from flows.store.base import ObjectStore

RunEnd = Literal["finished", "refused", "failed", "cancelled"]
TOUCH_SECONDS = 5.0
MOST_ATTEMPTS = 50
"""Attempts under one opening of a run; more than a bad day of crashes makes, so what needs more is stuck."""
_OPENED_AGAIN = ("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Start:
    """Say which weights a run starts from and how large the file is."""

    weights: StartWeights
    size_bytes: int
    class_list_version: int


def choose_start(ctx: Context, task_id: str) -> Start:
    """Return the champion's weights, or the newest registered origin's before the first release (law 5).

    Raises:
        CannotStart: the task has neither.
    """
    current = champion(ctx, task_id)
    if current is not None:
        return _start_of_champion(current)
    known = origins(ctx, task_id)
    if not known:
        raise CannotStart(
            expected="a champion or a registered origin",
            got="neither",
            where=f"task {task_id}",
            now="Register weights with 'whetstone origin register'.",
        )
    return _start_of_origin(known[0])


def start_with(ctx: Context, task_id: str, sha256: str) -> Start:
    """Return the start a run was opened with, whoever is champion by now.

    Raises:
        CannotStart: no champion and no origin ever had these weights.
    """
    with ctx.database.reader() as session:
        row = session.scalars(
            select(ChampionRow)
            .where(ChampionRow.task_id == task_id, ChampionRow.weights_sha256 == sha256)
            .limit(1)
        ).first()
    if row is not None:
        return _start_of_champion(row)
    for origin in origins(ctx, task_id):
        if origin.weights_sha256 == sha256:
            return _start_of_origin(origin)
    raise CannotStart(
        expected="weights of a champion or a registered origin", got=sha256, where=f"task {task_id}"
    )


def active_run(ctx: Context, task_id: str) -> RunRow | None:
    """Return the run of a task that is not closed, the oldest if there were several."""
    with ctx.database.reader() as session:
        return session.scalars(
            select(RunRow)
            .where(RunRow.task_id == task_id, RunRow.state == "active")
            .order_by(RunRow.started_at, RunRow.run_id)
            .limit(1)
        ).first()


def open_run(ctx: Context, task_id: str, snapshot_id: str, start: Start) -> RunRow:
    """Record a run under the name of its inputs; the same inputs return the record that is there.

    A run that failed or was cancelled is opened again: whoever asks has decided that another attempt is worth
    it. What its trainer said when it gave up goes first, or the new attempt would take it for its own.
    """
    recipe = ctx.settings.task(task_id).recipe.naming()
    run_id = run_id_of(
        task_id=task_id, snapshot_id=snapshot_id, start_sha256=start.weights.sha256, recipe=recipe
    )
    with ctx.database.reader() as session:
        known = session.get(RunRow, run_id)
    if known is not None and known.state in _OPENED_AGAIN:
        ctx.store.delete(keys.run(task_id, run_id, "failure.json"))
    with ctx.database.session() as session:
        known = session.get(RunRow, run_id)
        if known is not None:
            if known.state in _OPENED_AGAIN:
                _reopen(known)
            return known
        row = RunRow(
            run_id=run_id,
            task_id=task_id,
            snapshot_id=snapshot_id,
            start_kind=start.weights.kind,
            start_sha256=start.weights.sha256,
            recipe=recipe,
            state="active",
            attempts=0,
            flow_run="",
            reason="",
            started_at=utc_now(),
            touched_at=utc_now(),
            ended_at=None,
        )
        session.add(row)
        session.flush()
        return row


def take_run(ctx: Context, run_id: str, flow_run: str) -> RunRow:
    """Note that this flow works on a run now."""
    with ctx.database.session() as session:
        row = _row(session.get(RunRow, run_id), run_id)
        row.attempts += 1
        row.flow_run = flow_run
        row.touched_at = utc_now()
        return row


def uncount_attempt(ctx: Context, run_id: str) -> None:
    """Forget an attempt that a service which was away cut short: it says nothing about the run."""
    with ctx.database.session() as session:
        row = _row(session.get(RunRow, run_id), run_id)
        row.attempts = max(0, row.attempts - 1)


def close_run(ctx: Context, run_id: str, state: RunEnd, reason: str) -> RunRow:
    """Close a run with its reason; a closed one stays as it was closed."""
    with ctx.database.session() as session:
        row = _row(session.get(RunRow, run_id), run_id)
        if row.state == "active":
            row.state, row.reason, row.ended_at = state, reason, utc_now()
            row.touched_at = utc_now()
    write_journal(ctx.store, row)
    return row


def write_journal(store: ObjectStore, row: RunRow) -> None:
    """Keep how a run ended where a person can read it later (law 10)."""
    content = {
        "run_id": row.run_id,
        "state": row.state,
        "reason": row.reason,
        "snapshot_id": row.snapshot_id,
        "start_sha256": row.start_sha256,
        "recipe": row.recipe,
        "started_at": row.started_at.isoformat(),
        "ended_at": row.ended_at.isoformat() if row.ended_at else None,
    }
    store.put(keys.journal(row.task_id, "runs", row.run_id), json.dumps(content, indent=1).encode())


def touch_run(ctx: Context, run_id: str) -> None:
    """Note that the run's flow lives; who is not touched for long has lost it and is asked for again."""
    with ctx.database.session() as session:
        row = session.get(RunRow, run_id)
        if row is not None and row.state == "active":
            row.touched_at = utc_now()


@contextmanager
def touching(ctx: Context, run_id: str) -> Iterator[None]:
    """Touch a run every few seconds, in a thread, while the block runs."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(TOUCH_SECONDS):
            try:
                touch_run(ctx, run_id)
            except FlowsError:
                # The database is away or busy; the steps themselves will tell if it stays so.
                continue

    thread = threading.Thread(target=beat, name=f"touch-{run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def alone(ctx: Context, task_id: str) -> Iterator[None]:
    """Work on a task as its only flow on this machine; the kernel frees the lock however the flow ends.

    Raises:
        AnotherAtWork: a living flow has the task.
    """
    path = ctx.folder / "locks" / f"retrain-{task_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AnotherAtWork(
                expected=f"no other flow for task {task_id}",
                got="one that lives",
                where=str(path),
                now="Nothing is to be done: the other flow does this work.",
            ) from None
        yield
    finally:
        os.close(handle)


def _start_of_champion(row: ChampionRow) -> Start:
    weights = StartWeights(
        kind="champion" if row.kind == "run" else "origin",
        sha256=row.weights_sha256,
        key=row.weights_key,
        model_id=row.model_id,
    )
    return Start(weights, row.weights_bytes, row.class_list_version)


def _start_of_origin(row: OriginRow) -> Start:
    weights = StartWeights(
        kind="origin", sha256=row.weights_sha256, key=row.weights_key, model_id=row.model_id
    )
    return Start(weights, row.weights_bytes, row.class_list_version)


def _reopen(row: RunRow) -> None:
    row.state, row.reason, row.ended_at, row.touched_at = "active", "", None, utc_now()
    # The flow run that was cancelled works on it no more: its cancellation must not close it again.
    row.flow_run = ""
    if row.attempts > MOST_ATTEMPTS:
        # Only a person asks for it again; the trigger stops after far fewer.
        row.attempts = 0


def _row(found: RunRow | None, run_id: str) -> RunRow:
    if found is None:
        raise CannotStart(expected="a recorded run", got="none", where=run_id)
    return found
