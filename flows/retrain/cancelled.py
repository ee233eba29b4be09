"""Close the runs whose flow a person cancelled in Prefect, which ends their machines.

Prefect's own cancellation may reach no process, and its hooks do not always run, so nothing waits for them:
the reaper asks for the state of the flow run that works on each active run.

    Cancelling, Cancelled       a person's word: the run is closed, and the reaper ends what works for it
    any other state, no such    a crash, a lost process, a server that was set up anew: the next attempt goes
    run, no answer              on with the run, so nothing changes
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select

from fleet_contracts import utc_now
from flows.database import Database
from flows.database.schema import RunRow
from flows.errors import FlowsError
from flows.gpus.prefect_api import FlowState, PrefectAway
from flows.retrain.runs import write_journal
from flows.store.base import ObjectStore

log = logging.getLogger("whetstone.retrain")

BY_A_PERSON = ("CANCELLED", "CANCELLING")


class FlowRuns(Protocol):
    """Know how flow runs are; Prefect's server does."""

    def state_of(self, flow_run: str) -> FlowState | None:
        """Return a flow run's state, None when there is no such run; raises `PrefectAway`."""
        ...


@dataclass(frozen=True, slots=True)
class At:
    """Hold where runs are closed; without a store the record in the bucket is left out."""

    database: Database
    store: ObjectStore | None = None


class Canceller:
    """Look for cancelled runs again and again; a Prefect that is away is told once, until it answers."""

    def __init__(self, at: At, flow_runs: FlowRuns) -> None:
        self._at = at
        self._flow_runs = flow_runs
        self._is_away = False

    def __call__(self) -> None:
        """Look once."""
        try:
            close_cancelled(self._at, self._flow_runs)
            self._is_away = False
        except PrefectAway as error:
            if not self._is_away:
                log.warning("retrain.cancellations_not_seen error=%s", error)
            self._is_away = True


def close_cancelled(at: At, flow_runs: FlowRuns) -> tuple[str, ...]:
    """Close every active run whose flow run was cancelled; return their names.

    Raises:
        PrefectAway: it does not say of one; the others are closed where they were cancelled.
    """
    closed = []
    away: PrefectAway | None = None
    for run_id, flow_run in _at_work(at.database):
        try:
            state = flow_runs.state_of(flow_run)
        except PrefectAway as error:
            away = error
            continue
        if state is not None and state.kind in BY_A_PERSON:
            row = close_if_still_of(at.database, run_id, flow_run, _reason(state))
            if row is not None:
                closed.append(run_id)
                log.warning("retrain.cancelled run=%s flow_run=%s", run_id, flow_run)
                _keep_record(at, row)
    if away is not None:
        raise away
    return tuple(closed)


def close_if_still_of(database: Database, run_id: str, flow_run: str, reason: str) -> RunRow | None:
    """Close a run as cancelled if it is active and this flow run is still the one that works on it.

    Another attempt may have taken the run since Prefect was asked: that one nobody cancelled.
    """
    with database.session() as session:
        row = session.get(RunRow, run_id)
        if row is None or row.state != "active" or row.flow_run != flow_run:
            return None
        row.state, row.reason, row.ended_at = "cancelled", reason, utc_now()
        return row


def _at_work(database: Database) -> list[tuple[str, str]]:
    """Return active runs with the flow run that works on each; one begun by hand has none."""
    with database.reader() as session:
        rows = session.execute(select(RunRow.run_id, RunRow.flow_run).where(RunRow.state == "active")).all()
    return [(run_id, flow_run) for run_id, flow_run in rows if _is_flow_run(flow_run)]


def _is_flow_run(name: str) -> bool:
    try:
        uuid.UUID(name)
    except ValueError:
        return False
    return True


def _reason(state: FlowState) -> str:
    return "a person cancelled it in Prefect" + (f": {state.message}" if state.message else "")


def _keep_record(at: At, row: RunRow) -> None:
    if at.store is None:
        return
    try:
        write_journal(at.store, row)
    except FlowsError as error:
        # The database has the reason; the machine must end all the same.
        log.warning("retrain.not_journalled run=%s error=%s", row.run_id, error)
