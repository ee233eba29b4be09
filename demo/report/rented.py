"""Work out what renting came to: machines, money, what a preemption cost, where the time went; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import fmean

from demo.report.overhead import Part
from fleet_contracts.training import RunEvent


@dataclass(frozen=True, slots=True)
class Span:
    """Hold one machine's life; price in dollars an hour, `cost` by our leases, `bill` by its seller's books.

    `began` holds the seconds from its first process to its first step by what they went into, where it told.
    """

    region: str
    spot: bool
    price: float
    ordered_at: datetime
    booted_at: datetime | None
    ended_at: datetime
    why: str
    cost: float
    bill: float
    first_step_at: datetime | None = None
    """When it began to train, None where it did not come that far."""
    began: dict[str, float] | None = None

    @property
    def seconds(self) -> float:
        """Return how long it was paid for."""
        return (self.ended_at - self.ordered_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Loss:
    """Hold what the end of a machine cost in work: where the next went on, and what had to be done again."""

    ended_at: datetime
    resumed_from: int
    saved_at: datetime
    epoch_seconds: float

    @property
    def seconds(self) -> float:
        """Return the work that was lost."""
        return max((self.ended_at - self.saved_at).total_seconds(), 0.0)

    @property
    def epochs(self) -> float:
        """Return the same as a share of an epoch."""
        return self.seconds / self.epoch_seconds


@dataclass(frozen=True, slots=True)
class Rented:
    """Hold all that is told of a run's renting; `on_demand` is the cheapest price without spot."""

    spans: tuple[Span, ...]
    events: tuple[RunEvent, ...]
    on_demand: float
    beginning: tuple[Part, ...] = ()

    @property
    def cost(self) -> float:
        """Return what our leases counted, in dollars."""
        return sum(one.cost for one in self.spans)

    @property
    def bill(self) -> float:
        """Return what the seller counted, in dollars."""
        return sum(one.bill for one in self.spans)

    def losses(self) -> tuple[Loss, ...]:
        """Return what was lost at the end of every machine that another one followed."""
        return tuple(
            loss
            for before, after in pairwise(self.spans)
            if (loss := _loss(before, after, self.events)) is not None
        )

    def steady_seconds(self) -> float:
        """Return how long one machine that nobody takes away would have been paid for.

        All that was paid, less what was done twice: the lost work, and every start but the first.
        """
        again = sum(_start_seconds(one) for one in self.spans[1:])
        lost = sum(one.seconds for one in self.losses())
        return sum(one.seconds for one in self.spans) - again - lost

    def steady_cost(self) -> float:
        """Return what that machine would have cost on demand."""
        return self.on_demand * self.steady_seconds() / 3600.0

    def saved(self) -> float:
        """Return the share of that cost that was saved."""
        steady = self.steady_cost()
        return 1.0 - self.cost / steady if steady > 0.0 else 0.0


def first_step_of(
    ordered_at: datetime, began_at: datetime | None, events: Sequence[RunEvent]
) -> datetime | None:
    """Return when a machine began to train.

    Args:
        ordered_at: when it was ordered.
        began_at: what it told of its first step; one that goes on with a run tells too early a one.
        events: those of the run until the machine ended.
    """
    before = any(one.kind == "epoch" and one.at < ordered_at for one in events)
    if not before:
        return began_at
    return next((one.at for one in events if one.kind == "resumed" and one.at > ordered_at), None)


def _loss(before: Span, after: Span, events: Sequence[RunEvent]) -> Loss | None:
    """Return what was lost between two machines, None where the first had nothing to lose."""
    done = [one for one in events if one.kind == "epoch" and before.ordered_at <= one.at <= before.ended_at]
    if not done:
        return None
    resumed = next((one.epoch for one in events if one.kind == "resumed" and one.at > after.ordered_at), 0)
    safe = [one for one in done if one.epoch <= resumed]
    saved_at = safe[-1].at if safe else before.first_step_at or before.ordered_at
    return Loss(before.ended_at, resumed, saved_at, _epoch_seconds(done))


def _epoch_seconds(done: Sequence[RunEvent]) -> float:
    between = [(after.at - before.at).total_seconds() for before, after in pairwise(done)]
    return max(fmean(between), 0.001) if between else 1.0


def _start_seconds(span: Span) -> float:
    """Return the seconds of a machine that went into its start; one that never trained was nothing else."""
    begun = span.first_step_at
    return span.seconds if begun is None else (begun - span.ordered_at).total_seconds()
