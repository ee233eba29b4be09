"""Have a run trained: rent a machine, keep its ticket fresh, follow its events, start again what died.

All that is known of the machine's work is what lies in the bucket: `result.json` means done, `failure.json`
that the trainer gave up, and a machine that ended with neither died: the tenant finds the next best one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet_contracts import decode, keys, utc_now
from fleet_contracts.training import GpuOffer, RunEvent, TrainPlan, TrainTicket
from flows.context import Context
from flows.errors import DatabaseAway, StoreAway, StoreMissing
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused, LeaseEnded, ProviderAway
from flows.gpus.leases import LeaseBook
from flows.gpus.money import Budget, Verdict, begin_of_month, judge_budget, spent
from flows.gpus.tenancy import Need, Progress, Tenant
from flows.retrain import tickets
from flows.retrain.errors import TrainingFailed

log = logging.getLogger("whetstone.retrain")

POLL_SECONDS = 1.0
ENDING_SECONDS = 15.0
"""How long a trainer that has delivered may take to end by itself."""
MOST_MACHINES = 40
"""Machines that may die under one attempt; the deadline of each lease bounds what they cost."""
MOST_FAILURES = 2
"""How often a trainer may give up before the run is closed: the first may have been the network's fault."""
LONGEST_RUN = timedelta(hours=24)
REVIEW_SECONDS = 60.0
"""Between two looks at the market and at the money while a machine works."""
WAIT_SECONDS = 20.0
"""Between two looks at the market while there is no machine to be had."""
COLD_MINUTES = 5.0
"""From a launch to the first step, as the renting policy expects it: boot, packages, data, checkpoint."""
UNKNOWN_MINUTES = 60.0
"""Work of a run whose plan predicts nothing."""
LEAST_LEFT = timedelta(minutes=10)
"""A machine is not rented for less: it would end before it has the data."""
LONGEST_AWAY = 1800.0
"""Seconds store, database or provider may be away before the flow ends and leaves its run to another one."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Hold what training stands on: whose machines, whose leases, and what to do with each event."""

    provider: GpuProvider
    book: LeaseBook
    told: Callable[[RunEvent], None]
    poll_seconds: float = POLL_SECONDS
    budget: Budget = field(default_factory=Budget)


def is_late(plan: TrainPlan, now: datetime) -> bool:
    """Tell whether a plan's deadline passed or is too near to begin anything."""
    return plan.deadline is not None and plan.deadline - now < LEAST_LEFT


def costs_nothing(offer: GpuOffer | None) -> bool:
    """Tell whether a machine is known to be free, so that its deadline bounds no bill."""
    return offer is not None and offer.on_demand_price == 0


def need_of(plan: TrainPlan, now: datetime) -> Need:
    """Return what a plan needs of a machine: no less than the one it was made for."""
    minutes = plan.predicted.seconds / 60.0 if plan.predicted else UNKNOWN_MINUTES
    return Need(
        task_id=plan.task_id,
        run_id=plan.run_id,
        deadline=plan.deadline or now + LONGEST_RUN,
        has_deadline=plan.deadline is not None and not costs_nothing(plan.offer),
        price_cap=plan.price_cap,
        work_minutes=minutes,
        cold_start=COLD_MINUTES,
        epoch=minutes / sum(stage.epochs for stage in plan.stages),
        fits=lambda offer: fits(plan, offer),
        spot=plan.spot,
    )


def fits(plan: TrainPlan, offer: GpuOffer) -> bool:
    """Tell whether a run may go on with an offer: as many cards, each with at least the planned memory."""
    if plan.offer is None:
        return True
    if plan.offer.gpu_count == 0:
        return offer.gpu_count == 0
    return offer.gpu_count == plan.offer.gpu_count and offer.gpu_memory_mib >= plan.offer.gpu_memory_mib


class Training:
    """Follow one run from its ticket to its result; a second one after a crash goes on where it is.

    Args:
        ctx: the installation.
        plan: the run; already in the bucket.
        inputs: what its ticket points at.
        ground: machines, leases, listener.
    """

    def __init__(self, ctx: Context, plan: TrainPlan, inputs: tickets.Inputs, ground: Ground) -> None:
        self._ctx = ctx
        self._plan = plan
        self._inputs = inputs
        self._ground = ground
        self._ticket: TrainTicket | None = None
        self._tenant = Tenant(
            ground.book,
            {ground.provider.name: ground.provider},
            need_of(plan, ground.book.now()),
            lambda: tickets.ticket_file(ctx, plan.run_id),
        )
        self._look_again = 0.0
        self._waits = False
        self._warned = False
        self._epochs = 0
        self._events = 0
        self._machines = 0
        self._failures = 0

    def wait(self) -> None:
        """Return when the run's result lies in the bucket; its machine has ended then.

        Raises:
            TrainingFailed: the trainer gave up, machines kept dying, the budget is spent, or a machine would
                cost money past the plan's deadline.
            LaunchRefused: the provider will not start a machine.
            StoreAway, DatabaseAway, ProviderAway: for half an hour without a break.
        """
        away_since: float | None = None
        while True:
            try:
                if self._step():
                    return
                away_since = None
            except (StoreAway, DatabaseAway, ProviderAway, LeaseEnded) as error:
                # They pass; a flow that outlived its services for long must not wait for ever all the same.
                away_since = away_since or time.monotonic()
                log.warning("retrain.waits run=%s error=%s", self._plan.run_id, error)
                if time.monotonic() - away_since > LONGEST_AWAY:
                    raise
            time.sleep(self._ground.poll_seconds)

    def _step(self) -> bool:
        # (1) the trainer is told of fresh URLs before the old ones end
        if self._ticket is None or tickets.must_renew(self._ticket, utc_now()):
            self._ticket = tickets.write_ticket(self._ctx, self._plan, self._inputs)
        # (2) whether a machine runs is asked before the bucket: one that ends in between has written by then
        running = self._tenant.is_running()
        self._tell_events()
        # (3) the result is the commit of the whole run
        if self._exists("result.json"):
            self._end("the run delivered its result", running=running)
            return True
        # (4) a trainer that gave up says why
        failure = self._failure()
        if failure is not None:
            self._take_failure(failure, running=running)
        else:
            self._look_at_the_market(running=running)
        return False

    def _look_at_the_market(self, *, running: bool) -> None:
        """Rent where nothing runs, and now and then see whether to move, and what it costs."""
        if time.monotonic() < self._look_again and (running or self._waits):
            return
        self._require_money()
        if not running:
            self._require_worth_it()
        move = self._tenant.step(self._progress())
        self._waits = move.kind == "wait"
        self._look_again = time.monotonic() + (WAIT_SECONDS if self._waits else REVIEW_SECONDS)
        if move.kind == "rent":
            self._machines += 1
            log.info("retrain.machine run=%s offer=%s why=%s", self._plan.run_id, move.offer, move.why)
        elif self._waits:
            log.info("retrain.waits_for_machine run=%s why=%s", self._plan.run_id, move.why)

    def _require_worth_it(self) -> None:
        if self._machines >= MOST_MACHINES:
            raise self._failed(f"{MOST_MACHINES} machines died without a result")
        if is_late(self._plan, utc_now()) and not costs_nothing(self._plan.offer or self._first_offer()):
            raise self._failed(f"no time to rent a machine: the plan's deadline is {self._plan.deadline}")

    def _first_offer(self) -> GpuOffer:
        offers = self._ground.provider.offers()
        if not offers:
            raise LaunchRefused(expected="an offer", got="none", where=self._ground.provider.name)
        return offers[0]

    def _progress(self) -> Progress:
        """Return how far the run is: an epoch that was told is uploaded by the time the next one is."""
        epochs = sum(stage.epochs for stage in self._plan.stages)
        return Progress(saved=max(self._epochs - 1, 0) / epochs, here=min(self._epochs / epochs, 1.0))

    def _require_money(self) -> None:
        """Warn when a share of the budget is spent, and end the run when it is all spent."""
        verdict = self._verdict()
        if verdict.state == "stop":
            self._tenant.end(f"the budget is spent: {verdict.why}")
            raise self._failed(f"the budget is spent: {verdict.why}")
        if verdict.state == "warn" and not self._warned:
            self._warned = True
            log.warning("retrain.budget_near run=%s why=%s", self._plan.run_id, verdict.why)

    def _verdict(self) -> Verdict:
        book, now = self._ground.book, self._ground.book.now()
        of_run = spent(book.of_run(self._plan.run_id), now)
        return judge_budget(self._ground.budget, of_run, spent(book.since(begin_of_month(now)), now))

    def _take_failure(self, why: str, *, running: bool) -> None:
        self._failures += 1
        self._end("the trainer gave up", running=running)
        if self._failures >= MOST_FAILURES:
            raise self._failed(why)
        log.warning("retrain.trainer_gave_up run=%s why=%s", self._plan.run_id, why)
        self._ctx.store.delete(self._key("failure.json"))

    def _failed(self, why: str) -> TrainingFailed:
        return TrainingFailed(
            expected="a result",
            got=why,
            where=self._plan.run_id,
            now="The run is closed; it is trained again when its data change.",
        )

    def _end(self, reason: str, *, running: bool) -> None:
        """Let the machine end by itself for a moment, then give it back."""
        deadline = time.monotonic() + ENDING_SECONDS
        while running and time.monotonic() < deadline:
            time.sleep(min(0.2, self._ground.poll_seconds))
            running = self._tenant.is_running()
        self._tenant.end(reason)

    def _tell_events(self) -> None:
        """Read every event segment that came since; they are numbered without gaps."""
        while self._events < keys.MAX_EVENT_SEGMENTS:
            key = keys.run_event(self._plan.task_id, self._plan.run_id, self._events)
            try:
                event = decode(RunEvent, self._ctx.store.get(key), where=key)
            except StoreMissing:
                return
            self._events += 1
            if event.kind == "epoch":
                self._epochs = max(self._epochs, event.epoch)
            self._ground.told(event)

    def _failure(self) -> str | None:
        try:
            content = self._ctx.store.get(self._key("failure.json"))
        except StoreMissing:
            return None
        event = decode(RunEvent, content, where="failure.json")
        return str(event.data.get("error", "no reason given"))

    def _exists(self, name: str) -> bool:
        return self._ctx.store.stat(self._key(name)) is not None

    def _key(self, name: str) -> str:
        return keys.run(self._plan.task_id, self._plan.run_id, name)
