"""Have a run trained: rent a machine, keep its ticket fresh, follow its events, start again what died.

All that is known of the machine's work is what lies in the bucket: `result.json` means done, `failure.json`
that the trainer gave up, and a machine that ended with neither died: the tenant finds the next best one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, RunEvent, TrainPlan, TrainTicket
from flows.context import Context
from flows.errors import StoreAway
from flows.gpus.base import GpuProvider
from flows.gpus.errors import ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook
from flows.gpus.money import Budget
from flows.gpus.shunned import UNFIT
from flows.gpus.tenancy import Guard, Tenant, no_guard
from flows.retrain import tickets
from flows.retrain.attempts import NAMED, PASSING
from flows.retrain.errors import TrainingFailed
from flows.retrain.leaving import Leaving
from flows.retrain.limits import Limits, Silence, failed, first_offer, require_a_chance, require_no_later
from flows.retrain.needs import costs_nothing, need_of, progress_of
from flows.retrain.uploads import Uploads, why_of

log = logging.getLogger("whetstone.retrain")

POLL_SECONDS = 1.0
ENDING_SECONDS = 15.0
"""How long a trainer that has delivered may take to end by itself."""
MOST_MACHINES = 40
"""Machines that may die under one attempt; the deadline of each lease bounds what they cost."""
MOST_FAILURES = 2
"""How often a trainer may give up before the run is closed: the first may have been the network's fault."""
MOST_UNFIT = 10
"""Machines that may turn out unfit before the run is closed: what it asks of them is then likely wrong."""
REVIEW_SECONDS = 60.0
"""Between two looks at the market and at the money while a machine works."""
WAIT_SECONDS = 20.0
"""Between two looks at the market while there is no machine to be had."""
ASK_SECONDS = 5.0
"""Between two questions to a seller whether a machine runs: they limit calls. A free one is always asked."""
MOST_PAUSE = 10.0
"""Longest pause before a service that was away is tried again; the first is one poll, then twice as long."""
LONGEST_AWAY = 1800.0
"""Seconds store, database or provider may be away before the flow ends and leaves its run to another one."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Hold what training stands on: whose machines, whose leases, and what to do with each event."""

    providers: Mapping[str, GpuProvider]
    book: LeaseBook
    told: Callable[[RunEvent], None]
    poll_seconds: float = POLL_SECONDS
    budget: Budget = field(default_factory=Budget)
    guard: Guard = no_guard
    entry_of: Callable[[GpuOffer], float] = lambda _: 0.0


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
        need = replace(need_of(plan, ground.book.now()), entry_of=ground.entry_of)
        self._tenant = Tenant(ground.book, ground.providers, need, self._fresh_ticket, ground.guard)
        self._free = costs_nothing(plan.offer)
        self._look_again = 0.0
        self._ask_again = 0.0
        self._waits = False
        self._epochs = 0
        self._limits = Limits(plan.run_id, ground.book, ground.budget)
        self._silence = Silence.of(plan, ground.book.now())
        self._uploads = Uploads(ctx.store, plan)
        self._machines = 0
        self._failures = 0
        self._unfit = 0
        self._blind_since: float | None = None
        self._leaving = Leaving(self._tenant, plan.run_id)

    def wait(self) -> None:
        """Return when the run's result lies in the bucket; its machine has ended then.

        Raises:
            TrainingFailed: the trainer gave up, machines kept dying, the budget is spent, or a machine would
                cost money past the plan's deadline.
            LaunchRefused: the only machine is our own, and it will not start the trainer.
            StoreAway, DatabaseAway, ProviderAway, TokenRefused: for half an hour without a break.
        """
        away_since: float | None = None
        pause = self._ground.poll_seconds
        while True:
            try:
                if self._step_or_end():
                    return
                away_since, pause = None, self._ground.poll_seconds
            except PASSING as error:
                # They pass; a flow that outlived its services for long must not wait for ever all the same.
                away_since = away_since or time.monotonic()
                log.warning("retrain.waits run=%s error=%s", self._plan.run_id, error)
                if time.monotonic() - away_since > LONGEST_AWAY:
                    raise
                pause = min(2.0 * pause, MOST_PAUSE)
            time.sleep(pause)

    def _step_or_end(self) -> bool:
        try:
            return self._step_within_limits()
        except PASSING:
            raise
        except NAMED as error:
            # The run is closed over this, and nobody would look after its machine any more.
            self._end_or_leave(f"the run ends: {error.got if isinstance(error, TrainingFailed) else error}")
            raise

    def _step_within_limits(self) -> bool:
        try:
            return self._step()
        except StoreAway:
            # What nobody hears of goes on costing.
            self._look_at_the_limits()
            raise

    def _step(self) -> bool:
        # (1) the trainer is told of fresh URLs before the old ones end
        if self._ticket is None or tickets.must_renew(self._ticket, utc_now()):
            self._write_ticket()
        # (2) whether a machine runs is asked before the bucket: one that ends in between has written by then
        running = self._is_running()
        self._tell_events()
        # (3) the result is the commit of the whole run
        if self._uploads.has_result():
            self._end("the run delivered its result", running=running)
            return True
        # (4) a trainer that gave up says why
        failure = self._uploads.failure()
        if failure is not None and failure.data.get("unfit"):
            self._leave_unfit(why_of(failure), running=running)
        elif failure is not None:
            self._take_failure(why_of(failure), running=running)
        elif self._blind_since is None:
            self._look_at_the_market(running=running)
        else:
            self._look_at_the_limits()
        return False

    def _look_at_the_market(self, *, running: bool) -> None:
        """Rent where nothing runs, and now and then see whether to move, and what it costs."""
        if time.monotonic() < self._look_again and (running or self._waits):
            return
        if not self._free:
            self._limits.require_money()
        self._require_time(running=running)
        self._limits.require_open()
        if running and self._silence.is_too_long() and not self._is_free():
            self._leave_unfit(self._silence.line(), running=False)
            return
        move = self._tenant.step(progress_of(self._plan, self._epochs, self._uploads.saved()))
        self._waits = move.kind == "wait"
        self._look_again = time.monotonic() + (WAIT_SECONDS if self._waits else REVIEW_SECONDS)
        if move.kind == "rent":
            self._machines += 1
            self._silence.is_broken()
            log.info("retrain.machine run=%s offer=%s why=%s", self._plan.run_id, move.offer, move.why)
        elif self._waits:
            log.info("retrain.waits_for_machine run=%s why=%s", self._plan.run_id, move.why)

    def _look_at_the_limits(self) -> None:
        """End the run where it must not go on though nobody says whether its machine works."""
        self._require_time(running=True)
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + REVIEW_SECONDS
            if not self._free:
                self._limits.require_money()
            self._limits.require_open()

    def _require_time(self, *, running: bool) -> None:
        """End the run when its money would be spent past the deadline, or nothing came of it so far."""
        if running:
            require_no_later(self._plan, utc_now(), self._is_free)
            return
        if self._machines >= MOST_MACHINES:
            raise failed(self._plan.run_id, f"{MOST_MACHINES} machines died without a result")
        # A free machine may be late; one that never comes must not be waited for longer than that.
        require_a_chance(
            self._plan, utc_now(), lambda: not self._waits and self._is_free(), self._tenant.refusal
        )

    def _is_free(self) -> bool:
        unplanned = self._plan.offer is None
        return self._free or (unplanned and costs_nothing(first_offer(self._ground.providers.values())))

    def _is_running(self) -> bool:
        """Tell whether a machine works on the run, from the last answer while that is fresh enough.

        Where its seller does not answer or our token was revoked, it is taken to work on: what it uploads
        shows. Raises that error once nothing came for half an hour.
        """
        if time.monotonic() < self._ask_again:
            return True
        try:
            running = self._tenant.is_running()
        except (ProviderAway, TokenRefused) as error:
            self._go_on_blind(error)
            return True
        self._blind_since = None
        if running and not self._free:
            self._ask_again = time.monotonic() + ASK_SECONDS
        return running

    def _go_on_blind(self, error: ProviderAway | TokenRefused) -> None:
        if self._blind_since is None:
            self._blind_since = time.monotonic()
            log.warning("retrain.nobody_tells run=%s error=%s", self._plan.run_id, error)
        if time.monotonic() - self._blind_since > LONGEST_AWAY:
            raise error
        self._ask_again = time.monotonic() + ASK_SECONDS

    def _fresh_ticket(self) -> Path:
        """Write the ticket anew unless that was just done: a machine is started with a claim on it."""
        if self._ticket is None or tickets.has_aged(self._ticket, utc_now()):
            self._write_ticket()
        return tickets.ticket_file(self._ctx, self._plan.run_id)

    def _write_ticket(self) -> None:
        self._ticket = tickets.write_ticket(self._ctx, self._plan, self._inputs)

    def _take_failure(self, why: str, *, running: bool) -> None:
        self._end(f"the trainer gave up: {why}", running=running)
        if self._failures + 1 >= MOST_FAILURES:
            raise failed(self._plan.run_id, why)
        log.warning("retrain.trainer_gave_up run=%s why=%s", self._plan.run_id, why)
        self._uploads.forget_failure()
        # Counted when all is done: a service that is away meanwhile must not make one failure two.
        self._failures += 1

    def _leave_unfit(self, why: str, *, running: bool) -> None:
        """Go on elsewhere after a machine that was not what it was sold as, or that cannot train."""
        log.warning("retrain.machine_unfit run=%s why=%s", self._plan.run_id, why)
        self._tenant.shun(why)
        self._end(f"{UNFIT}: {why}", running=running)
        if self._unfit + 1 >= MOST_UNFIT or not self._tenant.has_elsewhere():
            raise failed(self._plan.run_id, f"no machine is fit: {why}")
        self._uploads.forget_failure()
        self._unfit += 1
        self._look_again = 0.0

    def _end(self, reason: str, *, running: bool) -> None:
        """Let the machine end by itself for a moment, then give it back."""
        deadline = time.monotonic() + ENDING_SECONDS
        while running and time.monotonic() < deadline:
            time.sleep(min(0.2, self._ground.poll_seconds))
            running = self._is_running()
        self._end_or_leave(reason)
        # A trainer that said its last word and ended has not died.
        self._tenant.explain(reason[:500])

    def _end_or_leave(self, reason: str) -> None:
        self._ask_again = 0.0
        self._leaving.leave(reason)

    def _tell_events(self) -> None:
        for event in self._uploads.new_events():
            self._silence.is_broken()
            if self._blind_since is not None:
                self._blind_since = time.monotonic()
            if event.kind == "epoch":
                self._epochs = max(self._epochs, event.epoch)
            self._ground.told(event)
