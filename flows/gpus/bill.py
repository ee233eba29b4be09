"""Say what a run's machines cost, lease by lease, as people read a bill. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet_contracts.training import Lease
from flows.gpus.money import cost_of, paid_from, price_of, reserved

UNKNOWN = "unknown"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Bill:
    """Hold one run's bill: a row for each lease, and what they come to in dollars.

    `at_most` is what it will be if every machine works until its deadline; `unpriced` counts leases at a
    price nobody knows, which no sum holds.
    """

    rows: tuple[dict[str, str], ...]
    dollars: float
    at_most: float
    unpriced: int
    is_final: bool

    def line(self, cap: float = 0.0) -> str:
        """Return the whole of it in a sentence."""
        told = f"${self.dollars:.2f} " + (
            "in the end" if self.is_final else f"so far, at most ${self.at_most:.2f}"
        )
        capped = f", of ${cap:.2f} for this run" if cap > 0.0 else ""
        return told + capped + (f"; {self.unpriced} leases of unknown price" if self.unpriced else "")


def bill_of(leases: Sequence[Lease], now: datetime) -> Bill:
    """Return the bill of a run's leases, oldest first."""
    costs = [cost_of(lease, now) for lease in leases]
    dollars = sum(cost for cost in costs if cost is not None)
    return Bill(
        rows=tuple(_row(lease, cost) for lease, cost in zip(leases, costs, strict=True)),
        dollars=dollars,
        at_most=dollars + reserved(leases, now),
        unpriced=sum(cost is None for cost in costs),
        is_final=all(lease.state == "ended" for lease in leases),
    )


def _row(lease: Lease, cost: float | None) -> dict[str, str]:
    offer, price = lease.offer, price_of(lease)
    return {
        "lease": lease.lease_id,
        "machine": lease.machine or "-",
        "provider": lease.provider,
        "gpu": f"{offer.gpu_count} x {offer.gpu}" if offer.gpu_count > 1 else offer.gpu,
        "region": offer.region or "-",
        "kind": "spot" if lease.spot else "on demand",
        "$/h": UNKNOWN if price is None else f"{price:.4g}",
        "from": _moment(paid_from(lease)),
        "until": _moment(lease.ended_at),
        "$": UNKNOWN if cost is None else f"{cost:.4f}",
        "state": lease.state if lease.state != "ended" else lease.end_reason[:_SHOWN],
    }


def _moment(at: datetime | None) -> str:
    return "-" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
