"""Check that no run pays for what it must not, and that no free one is held back by money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import keys, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.training import GpuOffer, Lease, TrainPlan
from flows.context import Context
from flows.gpus.base import MachineStatus
from flows.gpus.errors import ProviderAway
from flows.gpus.leases import LeaseBook, Terms, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.money import Budget
from flows.retrain import runs, steps, tickets, training
from flows.retrain.errors import TrainingFailed
from tests.flows.kit import TASK
from tests.flows.retrain.simulated import OFFER, SimulatedTrainer
from tests.helpers import own_sleep

PAID = OFFER.model_copy(update={"on_demand_price": 1.0})
SPENT = Budget(per_month=1.0)


@dataclass
class Case:
    """Hold one run about to be trained."""

    ctx: Context
    plan: TrainPlan
    provider: MemoryProvider
    book: LeaseBook

    def work(self, budget: Budget = Budget()) -> training.Training:  # noqa: B008 - frozen
        """Return what follows the run."""
        inputs = tickets.Inputs((), runs.start_with(self.ctx, TASK, self.plan.start.sha256))
        ground = training.Ground({self.provider.name: self.provider}, self.book, lambda _: None, budget=budget)
        return training.Training(self.ctx, self.plan, inputs, ground)


def case_of(ctx: Context, provider: MemoryProvider, offer: GpuOffer = OFFER, **changes: object) -> Case:
    """Open a run and plan it for an offer."""
    provider._offers = (offer,)
    run = steps.begin(ctx, TASK).run
    assert run is not None
    plan = steps.prepare(ctx, run, provider).model_copy(update={"offer": offer, **changes})
    return Case(ctx, plan, provider, LeaseBook(ctx.database))


def spend(book: LeaseBook, provider: MemoryProvider) -> None:
    """Have another run of this month cost far more than the month may."""
    terms = Terms(TASK, "run-0000000000000000", PAID, 0.0, utc_now() + timedelta(hours=1), price=1e6)
    lease = rent(book, provider, terms, Path("ticket.json"))
    provider.terminate(lease.machine)
    book.now = lambda: utc_now() + timedelta(minutes=1)
    book.end(lease.lease_id, "done")
    book.now = utc_now


def sleeping(monkeypatch: pytest.MonkeyPatch, each: Callable[[int], None] = lambda _: None) -> None:
    """Let no time pass, and end a wait that would never end."""
    naps = 0

    def nap(_: float) -> None:
        nonlocal naps
        naps += 1
        assert naps < 500, "it would wait for ever"
        each(naps)

    own_sleep(monkeypatch, nap)


class Idle(MemoryProvider):
    """Lend machines that run and run, and count how often one asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def status(self, machine: str) -> MachineStatus:
        """Count the question."""
        self.asked += 1
        return super().status(machine)


def test_a_free_machine_trains_though_the_month_is_spent(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others cost holds no run back that costs nothing; one that costs is stopped before it rents."""
    sleeping(monkeypatch)
    trainer = SimulatedTrainer(ready, tmp_path)
    case = case_of(ready, trainer)
    spend(case.book, MemoryProvider())
    paid = Case(ready, case.plan.model_copy(update={"offer": PAID}), MemoryProvider(PAID), case.book)
    with pytest.raises(TrainingFailed, match="budget is spent"):
        paid.work(SPENT).wait()
    assert paid.provider.launches == []
    case.work(SPENT).wait()
    assert ready.store.stat(keys.run(TASK, case.plan.run_id, "result.json")) is not None


def test_a_document_nobody_can_read_ends_the_machine(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is closed over it, so its machine ends now; an outage meanwhile only delays that."""
    provider = Idle()
    case = case_of(ready, provider, PAID)
    outages: list[int] = []

    def weather(nap: int) -> None:
        if nap == 1:
            ready.store.put(keys.run_event(TASK, case.plan.run_id, 0), b"no event")
        if nap in (2, 3):
            outages.append(nap)

    ended = provider.terminate

    def away_once(machine: str) -> None:
        if len(outages) < 2:
            raise ProviderAway(expected="an answer", got="none", where="memory")
        ended(machine)

    monkeypatch.setattr(provider, "terminate", away_once)
    sleeping(monkeypatch, weather)
    with pytest.raises(ContractError):
        case.work().wait()
    assert outages == [2, 3]
    assert len(provider.launches) == 1
    assert provider.list_ours() == ()
    assert case.book.live() == ()


def test_a_paid_machine_ends_at_the_deadline_without_a_reaper(
    ready: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow itself ends what would go on costing past the plan's deadline."""
    sleeping(monkeypatch)
    case = case_of(ready, Idle(), PAID, deadline=utc_now() - timedelta(minutes=1))
    terms = Terms(TASK, case.plan.run_id, PAID, 0.0, utc_now() + timedelta(hours=1), price=1.0)
    rent(case.book, case.provider, terms, Path("ticket.json"))
    with pytest.raises(TrainingFailed, match="no result by the plan's deadline"):
        case.work().wait()
    assert case.provider.list_ours() == ()


def test_a_free_machine_is_leased_past_a_deadline_that_passed(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long training at home goes on: no reaper ends its next machine as soon as it begins."""
    sleeping(monkeypatch)
    case = case_of(ready, SimulatedTrainer(ready, tmp_path), deadline=utc_now() - timedelta(hours=1))
    case.work().wait()
    (lease,) = case.book.of_run(case.plan.run_id)
    assert lease.deadline > utc_now() + timedelta(hours=23)


def test_a_free_machine_that_never_comes_is_given_up(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its offer is gone and another one costs money: the run ends at its deadline and rents nothing."""
    sleeping(monkeypatch)
    monkeypatch.setattr(training, "WAIT_SECONDS", 0.0)
    case = case_of(ready, Idle(), deadline=utc_now() - timedelta(hours=1))
    case.provider._offers = (PAID,)
    with pytest.raises(TrainingFailed, match="no time to rent"):
        case.work().wait()
    assert case.provider.launches == []


def test_a_seller_is_not_asked_at_every_poll(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred polls within seconds are a handful of calls where a machine costs money."""

    class Enough(Exception):
        pass

    def stop(nap: int) -> None:
        if nap == 200:
            raise Enough

    provider = Idle()
    case = case_of(ready, provider, PAID)
    sleeping(monkeypatch, stop)
    with pytest.raises(Enough):
        case.work().wait()
    assert len(provider.launches) == 1
    assert 1 <= provider.asked <= 40


def test_one_failure_counts_once_though_the_provider_is_away(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that gave up once is started again, also when its machine could not be ended at once."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.failures = 1
    case = case_of(ready, trainer)
    refused: list[Lease] = []
    work = case.work()
    ended = work._tenant.end

    def late(reason: str) -> None:
        if len(refused) < 3:
            refused.extend(case.book.live()[:1] or case.book.of_run(case.plan.run_id)[:1])
            raise ProviderAway(expected="an answer", got="none", where="memory")
        ended(reason)

    monkeypatch.setattr(work._tenant, "end", late)
    sleeping(monkeypatch)
    work.wait()
    assert len(refused) == 3
    assert ready.store.stat(keys.run(TASK, case.plan.run_id, "result.json")) is not None
