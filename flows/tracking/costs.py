"""Say what a run's machines cost: pure, from the leases they were rented under."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fleet_contracts.training import Lease
from flows.gpus.money import cost_of


def cost_of_run(leases: Sequence[Lease], now: datetime) -> float | None:
    """Return dollars of all leases until now; None where nobody knows a price."""
    costs = [_cost(lease, now) for lease in leases]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if costs and len(known) == len(costs) else None


def _cost(lease: Lease, now: datetime) -> float | None:
    if lease.cost is not None:
        return lease.cost
    # Older leases hold neither what was agreed nor when a machine was asked for; offer and record are near.
    began = lease.launched_at or lease.asked_at or (lease.recorded_at if lease.machine else None)
    price = lease.price if lease.price is not None else _offered(lease)
    return cost_of(lease.model_copy(update={"launched_at": began, "price": price}), now)


def _offered(lease: Lease) -> float | None:
    offer = lease.offer
    return offer.spot_price if lease.spot and offer.spot_price is not None else offer.on_demand_price
