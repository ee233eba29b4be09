"""Turn rows of the lease table into leases, and find those that live."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts.training import Lease
from flows.database.schema import LeaseRow
from flows.gpus.errors import LeaseEnded, ProviderAway


def require_live(row: LeaseRow, *, now: str) -> None:
    """Raise `LeaseEnded` where a lease ended, with what is to be done now."""
    if row.state == "ended":
        raise LeaseEnded(
            expected="a live lease",
            got=f"one that ended: {row.end_reason}",
            where=row.lease_id,
            now=now,
        )


def require_its_own(row: LeaseRow, machine: str) -> None:
    """Raise `LeaseEnded` where a lease has another machine: two callers launched under it at once."""
    if row.machine and row.machine != machine:
        raise LeaseEnded(
            expected=f"a lease without a machine, or with {machine}",
            got=row.machine,
            where=row.lease_id,
            now="The later machine is terminated.",
        )


def same_provider(lease: Lease, provider: str) -> Lease:
    """Return a run's live lease if it is this provider's; with another's, nothing may be rented here."""
    if lease.provider != provider:
        raise ProviderAway(
            expected=f"a run without a lease, or with one of {provider}",
            got=f"one of {lease.provider}",
            where=lease.lease_id,
            now="That one is looked after first: its machine may be there.",
        )
    return lease


def live_rows(session: Session, *, run_id: str | None, provider: str | None) -> list[LeaseRow]:
    """Return the rows of leases that have not ended, oldest first."""
    query = select(LeaseRow).where(LeaseRow.state != "ended")
    query = query.order_by(LeaseRow.recorded_at, LeaseRow.lease_id)
    if run_id is not None:
        query = query.where(LeaseRow.run_id == run_id)
    if provider is not None:
        query = query.where(LeaseRow.provider == provider)
    return list(session.scalars(query))


def lease_of(row: LeaseRow) -> Lease:
    """Return a row as the value that is handed around."""
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
