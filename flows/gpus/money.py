"""Count money: what a lease costs, what runs may still cost, and when to warn or stop. Pure; dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fleet_contracts.training import Lease

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Hold caps in dollars, 0 for none, and the shares of them at which a person is warned and work stops."""

    per_run: float = 0.0
    per_month: float = 0.0
    warn_share: float = 0.8
    stop_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether money may be spent on; `why` names the cap that is near or reached."""

    state: Literal["fine", "warn", "stop"]
    why: str = ""


def cost_of(lease: Lease, now: datetime) -> float | None:
    """Return what a lease has cost until now, None where its price is unknown.

    It is paid from the moment its machine was asked for, which is the earliest it can have run; a machine
    that was never asked for costs nothing.
    """
    began = lease.launched_at or lease.asked_at
    if began is None:
        return 0.0
    if lease.price is None:
        return None
    ended = lease.ended_at or now
    return lease.price * max((ended - began).total_seconds(), 0.0) / HOUR


def spent(leases: Iterable[Lease], now: datetime) -> float:
    """Return what leases cost together; those of unknown price count nothing."""
    return sum(_settled(lease, now) or 0.0 for lease in leases)


def judge_budget(budget: Budget, run_cost: float, month_cost: float) -> Verdict:
    """Tell whether a run may go on spending.

    Args:
        budget: the caps.
        run_cost: what this run has cost so far.
        month_cost: what all runs have cost this month, this one included.
    """
    verdict = Verdict("fine")
    for name, cap, cost in (("run", budget.per_run, run_cost), ("month", budget.per_month, month_cost)):
        if cap <= 0.0:
            continue
        told = f"${cost:.2f} of ${cap:.2f} for this {name} are spent"
        if cost >= budget.stop_share * cap:
            return Verdict("stop", told)
        if cost >= budget.warn_share * cap:
            verdict = Verdict("warn", told)
    return verdict


def begin_of_month(now: datetime) -> datetime:
    """Return when the month of a moment began."""
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _settled(lease: Lease, now: datetime) -> float | None:
    return lease.cost if lease.cost is not None else cost_of(lease, now)
