"""Say when a run has to end though its machine works: money, time, a person's word, silence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from fleet_contracts.training import GpuOffer, TrainPlan
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused
from flows.gpus.leases import LeaseBook
from flows.gpus.money import Budget, Verdict, judge_budget, spent
from flows.gpus.purse import month_so_far
from flows.retrain.errors import TrainingFailed
from flows.retrain.needs import is_late, need_of

log = logging.getLogger("whetstone.retrain")

LEAST_SILENCE = 3600.0
"""Seconds without a word of a paid machine after which it is given up; longer where an epoch takes long."""
SILENT_EPOCHS = 6.0
"""So many epochs, as the plan expects them, a machine may be silent: it tells each, and what it fetches."""


@dataclass(slots=True)
class Limits:
    """Hold one run against its budget and against being closed."""

    run_id: str
    book: LeaseBook
    budget: Budget
    warned: bool = False

    def require_money(self) -> None:
        """Warn when a share of the budget is spent, and end the run when it is all spent."""
        verdict = self._verdict()
        if verdict.state == "stop":
            raise failed(self.run_id, f"the budget is spent: {verdict.why}")
        if verdict.state == "warn" and not self.warned:
            self.warned = True
            log.warning("retrain.budget_near run=%s why=%s", self.run_id, verdict.why)

    def require_open(self) -> None:
        """End where a person cancelled the run: the reaper closed it and ends what works for it."""
        closed = self.book.why_closed(self.run_id)
        if closed:
            raise failed(self.run_id, f"the run was closed meanwhile, {closed}")

    def _verdict(self) -> Verdict:
        of_run = spent(self.book.of_run(self.run_id), self.book.now())
        return judge_budget(self.budget, of_run, month_so_far(self.book).dollars)


@dataclass(slots=True)
class Silence:
    """Tell how long a machine has said nothing; its launch counts as a word."""

    longest: float
    since: float

    @staticmethod
    def of(plan: TrainPlan, now: datetime) -> Silence:
        """Return what a plan's machines may be silent for, from now on."""
        expected = SILENT_EPOCHS * need_of(plan, now).epoch * 60.0
        return Silence(max(LEAST_SILENCE, expected), time.monotonic())

    def is_broken(self) -> None:
        """Note a word."""
        self.since = time.monotonic()

    def line(self) -> str:
        """Return it in words."""
        return f"nothing came of it for {self.longest / 60.0:.0f} minutes"

    def is_too_long(self) -> bool:
        """Tell whether nothing is to be expected any more."""
        return time.monotonic() - self.since > self.longest


def require_no_later(plan: TrainPlan, now: datetime, is_free: Callable[[], bool]) -> None:
    """End a run whose machine would cost money past the plan's deadline."""
    if plan.deadline is not None and plan.deadline <= now and not is_free():
        raise failed(plan.run_id, f"no result by the plan's deadline: {plan.deadline}")


def require_a_chance(plan: TrainPlan, now: datetime, may_be_late: Callable[[], bool], last: str) -> None:
    """End a run without a machine that is too late for another one; `last` is what was refused last."""
    if is_late(plan, now) and not may_be_late():
        told = f"; {last}" if last else ""
        raise failed(plan.run_id, f"no time to rent a machine: the plan's deadline is {plan.deadline}{told}")


def first_offer(providers: Iterable[GpuProvider]) -> GpuOffer:
    """Return what the first provider that offers anything names first."""
    for provider in providers:
        offers = provider.offers()
        if offers:
            return offers[0]
    raise LaunchRefused(expected="an offer", got="none", where="every provider")


def failed(run_id: str, why: str) -> TrainingFailed:
    """Return the end of a run."""
    return TrainingFailed(
        expected="a result",
        got=why,
        where=run_id,
        now="The run is closed; it is trained again when its data change.",
    )
