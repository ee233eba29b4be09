"""Record who owns a machine before it exists, so that none is ever rented without an owner (law 8).

    recorded --(asked)--> --(launch call returned)--> launched --(work done, deadline, reaper)--> ended

A crash between any two steps leaves either a recorded lease without a machine, which the next attempt of
the same run launches under, or a machine whose lease is known, which the reaper can judge. A launch whose
answer was lost is never asked a second time before the provider's own list would show its machine, so that no
lease has two.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.database.schema import LeaseRow, RunRow
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused, LeaseEnded, ProviderAway
from flows.gpus.money import cost_of

MACHINE_ENDED = "its machine had ended"
"""Why a lease ended whose machine died or was taken away."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Say for which run a machine is rented, what it may cost in dollars an hour, and when it has to end.

    `price` is what the offer asks in dollars an hour, None when nobody knows.
    """

    task_id: str
    run_id: str
    offer: GpuOffer
    price_cap: float
    deadline: datetime
    spot: bool = False
    price: float | None = None


class LeaseBook:
    """Keep the leases of an installation; `now` may be another clock than the machine's."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self.now = now

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
                recorded_at=self.now(),
                ended_at=None,
                end_reason="",
                spot=terms.spot,
                price=terms.price,
                asked_at=None,
                launched_at=None,
                cost=None,
            )
            session.add(row)
            session.flush()
            return _lease_of(row)

    def note_asked(self, lease_id: str) -> Lease:
        """Note that the provider is about to be asked for a machine: from now on one may exist.

        Raises:
            LeaseEnded: the lease ended meanwhile; nothing may be asked for under it.
        """
        with self._database.session() as session:
            row = self._row(session, lease_id)
            _require_live(row, now="The next attempt records a new lease.")
            row.asked_at = self.now()
            return _lease_of(row)

    def note_launched(self, lease_id: str, machine: str) -> Lease:
        """Note the machine of a lease.

        Raises:
            LeaseEnded: the lease ended meanwhile; the caller has to terminate the machine.
        """
        with self._database.session() as session:
            row = self._row(session, lease_id)
            _require_live(row, now="The machine is terminated; the next attempt records a new lease.")
            if row.state != "launched":
                # It may have run since it was asked for, and is paid from then on.
                row.launched_at = row.asked_at or self.now()
            row.state, row.machine = "launched", machine
            return _lease_of(row)

    def end(self, lease_id: str, reason: str) -> Lease:
        """End a lease; one that has ended keeps its first reason."""
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state != "ended":
                row.state, row.end_reason, row.ended_at = "ended", reason, self.now()
                row.cost = cost_of(_lease_of(row), self.now())
            return _lease_of(row)

    def live(self, *, run_id: str | None = None, provider: str | None = None) -> tuple[Lease, ...]:
        """Return the leases that have not ended, oldest first."""
        with self._database.reader() as session:
            return tuple(_lease_of(row) for row in _live_rows(session, run_id=run_id, provider=provider))

    def of_run(self, run_id: str) -> tuple[Lease, ...]:
        """Return every lease a run ever had, oldest first."""
        with self._database.reader() as session:
            query = select(LeaseRow).where(LeaseRow.run_id == run_id)
            rows = session.scalars(query.order_by(LeaseRow.recorded_at, LeaseRow.lease_id))
            return tuple(_lease_of(row) for row in rows)

    def of_task(self, task_id: str) -> tuple[Lease, ...]:
        """Return every lease of a task's runs, oldest first."""
        with self._database.reader() as session:
            query = select(LeaseRow).where(LeaseRow.task_id == task_id)
            rows = session.scalars(query.order_by(LeaseRow.recorded_at, LeaseRow.lease_id))
            return tuple(_lease_of(row) for row in rows)

    def since(self, moment: datetime) -> tuple[Lease, ...]:
        """Return the leases that lived at a moment or were recorded since, oldest first."""
        with self._database.reader() as session:
            alive = or_(LeaseRow.state != "ended", LeaseRow.ended_at >= moment)
            query = select(LeaseRow).where(or_(LeaseRow.recorded_at >= moment, alive))
            rows = session.scalars(query.order_by(LeaseRow.recorded_at, LeaseRow.lease_id))
            return tuple(_lease_of(row) for row in rows)

    def closed_runs(self, leases: Iterable[Lease]) -> frozenset[str]:
        """Return which of the leases' runs are closed; a run that nobody recorded is not."""
        names = {lease.run_id for lease in leases}
        with self._database.reader() as session:
            query = select(RunRow.run_id).where(RunRow.run_id.in_(names), RunRow.state != "active")
            return frozenset(session.scalars(query))

    def why_closed(self, run_id: str) -> str:
        """Return how a run ended, "" while it is active or where nobody recorded it."""
        with self._database.reader() as session:
            row = session.get(RunRow, run_id)
        return "" if row is None or row.state == "active" else f"{row.state}: {row.reason}"

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
        ProviderAway: the provider does not answer, or an earlier launch may still show; the recorded lease
            stays for the next attempt.
        LaunchRefused: the provider will not; the lease is ended.
        LeaseEnded: the reaper ended the lease meanwhile; the machine is terminated.
    """
    # (1) the owner is on disk before anything can cost money
    lease = book.record(terms)
    # (2) a lease whose machine ended is closed, so that its name is never used for two machines
    if lease.state == "launched" and provider.status(lease.machine).state != "running":
        provider.terminate(lease.machine)
        book.end(lease.lease_id, MACHINE_ENDED)
        lease = book.record(terms)
    # (3) an earlier call may have had its effect though its answer was lost
    machine = _launched_before(book, provider, lease)
    # (4) that we ask is on disk before we do
    if not machine:
        lease = book.note_asked(lease.lease_id)
        try:
            machine = provider.launch(lease, ticket)
        except LaunchRefused as error:
            book.end(lease.lease_id, f"launch refused: {error.got}")
            raise
    # (5) a lease that ended between (1) and (5) takes its machine with it
    try:
        return book.note_launched(lease.lease_id, machine)
    except LeaseEnded:
        provider.terminate(machine)
        raise


def give_back(book: LeaseBook, provider: GpuProvider, lease: Lease, reason: str) -> None:
    """End a machine first and its lease second, so that a crash in between leaves it to the reaper.

    A launch whose answer was lost is looked for in the provider's list; where that lags, the reaper finds it.

    Raises:
        ProviderAway: the provider still calls it running; the lease lives on and the call is made again.
    """
    for machine in _machines_of(provider, lease):
        end_machine(provider, machine)
    book.end(lease.lease_id, reason)


def end_machine(provider: GpuProvider, machine: str) -> None:
    """End a machine and ask whether it ended: an answer to the order alone proves nothing.

    Raises:
        ProviderAway: the provider does not answer, or still calls it running.
    """
    provider.terminate(machine)
    if provider.status(machine).state == "running":
        raise ProviderAway(
            expected="a machine that ended",
            got="one that runs",
            where=f"{machine} of {provider.name}",
            now="It is ended again at the next round.",
        )


def _machines_of(provider: GpuProvider, lease: Lease) -> list[str]:
    if lease.machine or lease.asked_at is None:
        return [lease.machine] if lease.machine else []
    return sorted(one.machine for one in provider.list_ours() if one.lease_id == lease.lease_id)


def _launched_before(book: LeaseBook, provider: GpuProvider, lease: Lease) -> str:
    """Return the machine that an earlier launch under this lease made, "" when there is none.

    Raises:
        ProviderAway: it cannot be told yet: the provider's list may not show it so soon.
    """
    if lease.machine or lease.asked_at is None:
        return lease.machine
    ours = _machines_of(provider, lease)
    if ours:
        return ours[0]
    if book.now() - lease.asked_at < provider.settles:
        raise ProviderAway(
            expected=f"{provider.settles} since the launch whose answer was lost",
            got=str(book.now() - lease.asked_at),
            where=f"{lease.lease_id} at {provider.name}",
            now="It is asked again when its machine would show; until then it may be there.",
        )
    return ""


def _require_live(row: LeaseRow, *, now: str) -> None:
    if row.state == "ended":
        raise LeaseEnded(
            expected="a live lease",
            got=f"one that ended: {row.end_reason}",
            where=row.lease_id,
            now=now,
        )


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
            "spot": row.spot,
            "price": row.price,
            "asked_at": row.asked_at,
            "launched_at": row.launched_at,
            "cost": row.cost,
        }
    )
