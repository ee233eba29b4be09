"""Say what runs cost beside what they brought: per run, per model, and per point of mAP.

The cost of a model is that of every run since the model before it: refused, failed and cancelled runs are
paid for as well. A point is one hundredth of mAP50 on the validation images, gained over the champion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from fleet_contracts.training import Lease
from flows.context import Context
from flows.database.schema import RunRow
from flows.gpus.leases import LeaseBook
from flows.gpus.money import HOUR, cost_of, cost_of_run, paid_from

MEASURE = "val_map50"


@dataclass(frozen=True, slots=True)
class Ran:
    """Hold one closed run with its leases."""

    run_id: str
    state: str
    ended_at: datetime
    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class RunCost:
    """Hold what a run cost and what it brought; dollars, None where nobody knows.

    `saved` is what its spot machines would have cost more on demand, `lost` how many machines died under it,
    `cost_of_model` None for a run that brought no model.
    """

    run_id: str
    state: str
    cost: float | None
    saved: float
    machines: int
    lost: int
    cost_of_model: float | None
    gain_points: float | None
    cost_per_point: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def gain_points(measures: Mapping[str, float]) -> float | None:
    """Return the points of mAP50 a candidate is above the champion, None without both."""
    ours, before = measures.get(f"candidate.{MEASURE}"), measures.get(f"champion.{MEASURE}")
    return None if ours is None or before is None else 100.0 * (ours - before)


def cost_per_point(cost: float | None, gain: float | None) -> float | None:
    """Return dollars for each point gained, None where there was no gain or nobody knows."""
    return None if cost is None or gain is None or gain <= 0.0 else cost / gain


def saved_by_spot(leases: Iterable[Lease], now: datetime) -> float:
    """Return what the same hours would have cost more on demand, as far as that price was offered."""
    saved = 0.0
    for lease in leases:
        began, cost, price = paid_from(lease), cost_of(lease, now), lease.offer.on_demand_price
        if lease.spot and began is not None and cost is not None and price is not None:
            hours = max(((lease.ended_at or now) - began).total_seconds(), 0.0) / HOUR
            saved += price * hours - cost
    return saved


def cost_of_model(run_id: str, runs: Iterable[Ran], now: datetime) -> float | None:
    """Return what a model cost: its run and those since the model before; None if the run brought none."""
    together: list[Lease] = []
    for one in sorted(runs, key=lambda ran: (ran.ended_at, ran.run_id)):
        together += one.leases
        if one.state != "finished":
            continue
        if one.run_id == run_id:
            return cost_of_run(together, now)
        together = []
    return None


def closed_runs(ctx: Context, task_id: str) -> tuple[Ran, ...]:
    """Return a task's closed runs with their leases, oldest first."""
    leases: dict[str, list[Lease]] = {}
    for lease in LeaseBook(ctx.database).of_task(task_id):
        leases.setdefault(lease.run_id, []).append(lease)
    query = select(RunRow).where(RunRow.task_id == task_id, RunRow.ended_at.is_not(None))
    with ctx.database.reader() as session:
        rows = list(session.scalars(query.order_by(RunRow.ended_at, RunRow.run_id)))
    return tuple(
        Ran(row.run_id, row.state, row.ended_at, tuple(leases.get(row.run_id, ())))
        for row in rows
        if row.ended_at is not None
    )
