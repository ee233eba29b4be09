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
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.database.schema import LeaseRow, RunRow
from flows.gpus.base import GpuProvider, MachineState
from flows.gpus.errors import LaunchRefused, LeaseEnded, ProviderAway
from flows.gpus.lease_rows import lease_of, live_rows, require_its_own, require_live, same_provider
from flows.gpus.money import cost_of

MACHINE_ENDED = "its machine had ended"
"""Why a lease ended whose machine died or was taken away."""
LAUNCH_REFUSED = "launch refused"
"""How the reason begins of a lease whose provider would not launch."""
SENDING = timedelta(minutes=2)
"""From the note that a provider is asked to its taking the order, at most; a process may die in between."""


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
        self.returned: dict[str, datetime] = {}
        """When launch calls of this process came back, answered or not, by lease."""

    def record(self, terms: Terms) -> Lease:
        """Write a new lease down, or return the live one this run already has from this provider.

        Raises:
            ProviderAway: the run has one from another provider, which may have a machine.
        """
        with self._database.session() as session:
            live = live_rows(session, run_id=terms.run_id, provider=None)
            if live:
                return same_provider(lease_of(live[0]), terms.offer.provider)
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
                end_reason="",
                spot=terms.spot,
                price=terms.price,
            )
            session.add(row)
            session.flush()
            return lease_of(row)

    def note_asked(self, lease_id: str) -> Lease:
        """Note that the provider is about to be asked for a machine: from now on one may exist.

        Raises:
            LeaseEnded: the lease ended meanwhile; nothing may be asked for under it.
        """
        with self._database.session() as session:
            row = self._row(session, lease_id)
            require_live(row, now="The next attempt records a new lease.")
            row.asked_at = self.now()
            return lease_of(row)

    def note_launched(self, lease_id: str, machine: str) -> Lease:
        """Note the machine of a lease.

        Raises:
            LeaseEnded: the lease ended meanwhile, or has another; the caller has to terminate the machine.
        """
        with self._database.session() as session:
            row = self._row(session, lease_id)
            require_live(row, now="The machine is terminated; the next attempt records a new lease.")
            require_its_own(row, machine)
            if row.state != "launched":
                # It may have run since it was asked for, and is paid from then on.
                row.launched_at = row.asked_at or self.now()
            row.state, row.machine = "launched", machine
            return lease_of(row)

    def end(self, lease_id: str, reason: str) -> Lease:
        """End a lease; one that has ended keeps its first reason."""
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state != "ended":
                row.state, row.end_reason, row.ended_at = "ended", reason, self.now()
                row.cost = cost_of(lease_of(row), self.now())
            return lease_of(row)

    def call_off(self, lease_id: str, reason: str) -> None:
        """Have the reaper end a live lease and its machine as soon as it can."""
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state != "ended":
                row.deadline, row.end_reason = min(row.deadline, self.now()), reason

    def explain(self, lease_id: str, reason: str) -> None:
        """Say why a machine ended that had ended by itself: a trainer's last word is found after it."""
        with self._database.session() as session:
            row = self._row(session, lease_id)
            if row.state == "ended" and row.end_reason == MACHINE_ENDED:
                row.end_reason = reason

    def live(self, *, run_id: str | None = None, provider: str | None = None) -> tuple[Lease, ...]:
        """Return the leases that have not ended, oldest first."""
        with self._database.reader() as session:
            return tuple(lease_of(row) for row in live_rows(session, run_id=run_id, provider=provider))

    def of_run(self, run_id: str) -> tuple[Lease, ...]:
        """Return every lease a run ever had, oldest first."""
        return self._where(LeaseRow.run_id == run_id)

    def of_task(self, task_id: str) -> tuple[Lease, ...]:
        """Return every lease of a task's runs, oldest first."""
        return self._where(LeaseRow.task_id == task_id)

    def since(self, moment: datetime) -> tuple[Lease, ...]:
        """Return the leases that lived at a moment or were recorded since, oldest first."""
        alive = or_(LeaseRow.state != "ended", LeaseRow.ended_at >= moment)
        return self._where(or_(LeaseRow.recorded_at >= moment, alive))

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
        return next(iter(self._where(LeaseRow.lease_id == lease_id)), None)

    def _where(self, condition: ColumnElement[bool]) -> tuple[Lease, ...]:
        query = select(LeaseRow).where(condition).order_by(LeaseRow.recorded_at, LeaseRow.lease_id)
        with self._database.reader() as session:
            return tuple(lease_of(row) for row in session.scalars(query))

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
    if lease.state == "launched" and state_of(book, provider, lease) != "running":
        end_machine(provider, lease.machine)
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
            book.end(lease.lease_id, f"{LAUNCH_REFUSED}: {error.got}")
            raise
        finally:
            book.returned[lease.lease_id] = book.now()
    # (5) a lease that ended between (1) and (5) takes its machine with it
    try:
        return book.note_launched(lease.lease_id, machine)
    except LeaseEnded:
        provider.terminate(machine)
        raise


def state_of(book: LeaseBook, provider: GpuProvider, lease: Lease) -> MachineState:
    """Return how a lease's machine is; one its provider may not know yet is taken to run.

    Taken for gone, it would be rented a second time before the first one shows.
    """
    state = provider.status(lease.machine).state
    return "running" if state == "gone" and _may_not_show(book, provider, lease) else state


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
    if _may_not_show(book, provider, lease):
        raise ProviderAway(
            expected=f"{provider.settles} since the launch whose answer was lost",
            got=str(book.now() - lease.asked_at),
            where=f"{lease.lease_id} at {provider.name}",
            now="It is asked again when its machine would show; until then it may be there.",
        )
    return ""


def _may_not_show(book: LeaseBook, provider: GpuProvider, lease: Lease) -> bool:
    """Tell whether a lease's machine may exist and yet be unknown to its provider's answers."""
    if lease.asked_at is None or not provider.settles:
        return False
    ordered = book.returned.get(lease.lease_id, lease.asked_at + SENDING)
    return book.now() < ordered + provider.settles
