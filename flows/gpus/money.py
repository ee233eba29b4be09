"""Count money: what a lease costs, what runs may still cost, and when to warn or stop. Pure; dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
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
    that was never asked for costs nothing. What was settled when it ended stands.
    """
    if lease.cost is not None:
        return lease.cost
    began = paid_from(lease)
    if began is None:
        return 0.0
    price = price_of(lease)
    if price is None:
        return None
    return price * max(((lease.ended_at or now) - began).total_seconds(), 0.0) / HOUR


def paid_from(lease: Lease) -> datetime | None:
    """Return since when a lease may be paid for, None where no machine was ever asked for."""
    # Older leases do not hold when a machine was asked for; the record is near.
    return lease.launched_at or lease.asked_at or (lease.recorded_at if lease.machine else None)


def price_of(lease: Lease) -> float | None:
    """Return what a lease costs an hour: what was agreed, else what was offered, None when nobody knows."""
    return lease.price if lease.price is not None else _offered(lease)


def cost_since(lease: Lease, moment: datetime, now: datetime) -> float | None:
    """Return what a lease has cost from a moment until now; what it cost before belongs to another month."""
    whole = cost_of(lease, now)
    began = paid_from(lease)
    if whole is None or began is None or began >= moment:
        return whole
    ended = lease.ended_at or now
    if ended <= moment:
        return 0.0
    return whole * ((ended - moment) / (ended - began))


@dataclass(frozen=True, slots=True)
class Spending:
    """Say what was spent; `unpriced` counts leases that were paid for at a price nobody knows."""

    dollars: float = 0.0
    unpriced: int = 0


def spending(leases: Iterable[Lease], since: datetime, now: datetime) -> Spending:
    """Return what leases have cost from a moment until now."""
    costs = [cost_since(lease, since, now) for lease in leases]
    known = [cost for cost in costs if cost is not None]
    return Spending(sum(known), len(costs) - len(known))


def reserved(leases: Iterable[Lease], now: datetime) -> float:
    """Return what live leases may still cost until their deadlines; those of unknown price count nothing."""
    return sum(
        (price_of(lease) or 0.0) * max(lease.deadline - now, timedelta(0)).total_seconds() / HOUR
        for lease in leases
        if lease.state != "ended" and paid_from(lease) is not None
    )


def cost_of_run(leases: Iterable[Lease], now: datetime) -> float | None:
    """Return dollars of all leases of a run until now; None where there is none, or a price is unknown."""
    costs = [cost_of(lease, now) for lease in leases]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if costs and len(known) == len(costs) else None


def spent(leases: Iterable[Lease], now: datetime) -> float:
    """Return what leases cost together; those of unknown price count nothing."""
    return sum(cost_of(lease, now) or 0.0 for lease in leases)


def judge_launch(budget: Budget, month: Spending, others: float) -> Verdict:
    """Tell whether one more machine may be rented this month; a run without one waits until it may.

    What machines of other runs may still cost is held back for them: it is spent if all of ours dies now.

    Args:
        budget: the caps.
        month: what all runs have cost this month.
        others: what machines of other runs may still cost.
    """
    cap = budget.stop_share * budget.per_month
    if budget.per_month <= 0.0 or month.dollars + others < cap:
        return Verdict("fine")
    told = f"${month.dollars:.2f} of ${budget.per_month:.2f} for this month are spent"
    return Verdict("stop", f"{told}, and machines of other runs may cost ${others:.2f} more")


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


def _offered(lease: Lease) -> float | None:
    offer = lease.offer
    return offer.spot_price if lease.spot and offer.spot_price is not None else offer.on_demand_price
