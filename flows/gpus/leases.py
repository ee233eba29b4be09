"""Record who owns a machine before it exists, so that none is ever rented without an owner (law 8).

    recorded --(launch call returned)--> launched --(work done, deadline, reaper)--> ended

A crash between any two steps leaves either a recorded lease without a machine, which the next attempt of
the same run launches under, or a machine whose lease is known, which the reaper can judge.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.database.schema import LeaseRow
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused, LeaseEnded


@dataclass(frozen=True, slots=True)
class Terms:
    """Say for which run a machine is rented, what it may cost in dollars an hour, and when it has to end."""

    task_id: str
    run_id: str
    offer: GpuOffer
    price_cap: float
    deadline: datetime


class LeaseBook:
    """Keep the leases of an installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, terms: Terms) -> Lease:
        """Write a new lease down, or return the live one this run already has from this provider."""
        with self._database.session() as session:
            live = _live_rows(session, run_id=terms.run_id, provider=terms.offer.provider)
            if live:
                return _lease_of(live[0])
            row = LeaseRow(
                lease_id=f"lease-{uuid.uuid4().hex[:16]}",
                task_id=terms.task_id,
                run_id=terms.run_id,
                provider=terms.offer.provider,
                offer=terms.offer.model_dump(mode="json"),
                price_cap=terms.price_cap,
                deadline=terms.deadline,
                state="recorded",
                machine="",
                recorded_at=utc_now(),
                ended_at=None,
                end_reason="",
            )
            session.add(row)
            session.flush()
            return _lease_of(row)

    def note_launched(self, lease_id: str, machine: str) -> Lease:
        """Note the machine of a lease.

        Raises:
            LeaseEnded: the lease ended meanwhile; the caller has to terminate the machine.
        """
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state == "ended":
                raise LeaseEnded(
                    expected="a live lease",
                    got=f"one that ended: {row.end_reason}",
                    where=lease_id,
                    now="The machine is terminated; the next attempt records a new lease.",
                )
            row.state, row.machine = "launched", machine
            return _lease_of(row)

    def end(self, lease_id: str, reason: str) -> Lease:
        """End a lease; one that has ended keeps its first reason."""
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state != "ended":
                row.state, row.end_reason, row.ended_at = "ended", reason, utc_now()
            return _lease_of(row)

    def live(self, *, run_id: str | None = None, provider: str | None = None) -> tuple[Lease, ...]:
        """Return the leases that have not ended, oldest first."""
        with self._database.reader() as session:
            return tuple(_lease_of(row) for row in _live_rows(session, run_id=run_id, provider=provider))

    def find(self, lease_id: str) -> Lease | None:
        """Return a lease, live or ended."""
        with self._database.reader() as session:
            row = session.get(LeaseRow, lease_id)
            return None if row is None else _lease_of(row)

    @staticmethod
    def _row(session: Session, lease_id: str) -> LeaseRow:
        row = session.get(LeaseRow, lease_id)
        if row is None:
            raise LeaseEnded(expected="a recorded lease", got="none", where=lease_id)
        return row


def rent(book: LeaseBook, provider: GpuProvider, terms: Terms, ticket: Path) -> Lease:
    """Have one machine train for a run: the one it has, or a new one.

    Raises:
        ProviderAway: the provider does not answer; the recorded lease stays for the next attempt.
        LaunchRefused: the provider will not; the lease is ended.
        LeaseEnded: the reaper ended the lease meanwhile; the machine is terminated.
    """
    # (1) the owner is on disk before anything can cost money
    lease = book.record(terms)
    # (2) a lease whose machine ended is closed, so that its name is never used for two machines
    if lease.state == "launched" and provider.status(lease.machine).state != "running":
        provider.terminate(lease.machine)
        book.end(lease.lease_id, "its machine had ended")
        lease = book.record(terms)
    # (3) asking again under the same lease gives the same machine
    try:
        machine = provider.launch(lease, ticket)
    except LaunchRefused as error:
        book.end(lease.lease_id, f"launch refused: {error.got}")
        raise
    # (4) a lease that ended between (1) and (4) takes its machine with it
    try:
        return book.note_launched(lease.lease_id, machine)
    except LeaseEnded:
        provider.terminate(machine)
        raise


def give_back(book: LeaseBook, provider: GpuProvider, lease: Lease, reason: str) -> None:
    """End a machine first and its lease second, so that a crash in between leaves it to the reaper."""
    if lease.machine:
        provider.terminate(lease.machine)
    book.end(lease.lease_id, reason)


def _live_rows(session: Session, *, run_id: str | None, provider: str | None) -> list[LeaseRow]:
    query = select(LeaseRow).where(LeaseRow.state != "ended")
    query = query.order_by(LeaseRow.recorded_at, LeaseRow.lease_id)
    if run_id is not None:
        query = query.where(LeaseRow.run_id == run_id)
    if provider is not None:
        query = query.where(LeaseRow.provider == provider)
    return list(session.scalars(query))


def _lease_of(row: LeaseRow) -> Lease:
    return Lease.model_validate(
        {
            "task_id": row.task_id,
            "lease_id": row.lease_id,
            "run_id": row.run_id,
            "provider": row.provider,
            "offer": row.offer,
            "price_cap": row.price_cap,
            "deadline": row.deadline,
            "state": row.state,
            "machine": row.machine,
            "recorded_at": row.recorded_at,
            "ended_at": row.ended_at,
            "end_reason": row.end_reason,
        }
    )
