"""Follow runs whose seller is away for hours, whose store is away, or whose machine says nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import TrainPlan
from flows.context import Context
from flows.errors import StoreAway
from flows.gpus.leases import LeaseBook, Terms, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.money import Budget
from flows.gpus.reaper import reap
from flows.retrain import billing, leaving, limits, runs, tickets, training
from flows.retrain.errors import TrainingFailed
from tests.flows.kit import TASK
from tests.flows.retrain.simulated import SimulatedTrainer
from tests.flows.retrain.test_renting import PAID, Revoked, napping, planned, work


def at_work(ctx: Context, plan: TrainPlan, seller: MemoryProvider, budget: Budget) -> training.Training:
    """Return what follows the run, with a budget."""
    inputs = tickets.Inputs((), runs.start_with(ctx, TASK, plan.start.sha256))
    ground = training.Ground({seller.name: seller}, LeaseBook(ctx.database), lambda _: None, budget=budget)
    return training.Training(ctx, plan, inputs, ground)


def looking_always(monkeypatch: pytest.MonkeyPatch, each: Callable[[int], None]) -> None:
    """Look at money and market at every step."""
    napping(monkeypatch, each)
    monkeypatch.setattr(training, "REVIEW_SECONDS", 0.0)


def elsewhere() -> MemoryProvider:
    """Return a seller with two offers, the dearer one second."""
    seller = MemoryProvider(PAID, PAID.model_copy(update={"offer_id": "b", "on_demand_price": 2.0}))
    seller.elsewhere = True
    return seller


def test_a_result_is_taken_though_its_seller_is_away_for_hours(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is called off and lives until the reaper could end the machine, the run not being closed yet."""
    seller, delivery = elsewhere(), SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, PAID)

    def happen(nap: int) -> None:
        if nap == 2:
            seller.is_away = True
            delivery._deliver(plan)

    napping(monkeypatch, happen)
    monkeypatch.setattr(leaving, "LEFT_AFTER", 0.0)
    work(ready, plan, seller).wait()
    book = LeaseBook(ready.database)
    assert len(book.live()) == 1
    assert reap(book, [seller]) == ()
    seller.is_away = False
    (sentence,) = reap(book, [seller])
    assert sentence.reason == "the run delivered its result"
    assert (seller.list_ours(), book.live()) == ((), ())


def test_a_run_is_closed_though_its_seller_never_comes_back(
    ready: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reason to end is not lost in an outage, which would hold the task for ever."""
    seller = elsewhere()
    plan = planned(ready, seller, PAID)
    following = work(ready, plan, seller)

    def happen(nap: int) -> None:
        if nap == 2:
            seller.is_away = True
            following._plan = plan.model_copy(update={"deadline": utc_now()})

    napping(monkeypatch, happen)
    monkeypatch.setattr(leaving, "LEFT_AFTER", 0.0)
    with pytest.raises(TrainingFailed, match="no result by the plan's deadline"):
        following.wait()
    (lease,) = LeaseBook(ready.database).live()
    assert lease.deadline <= utc_now()


def test_an_outage_of_minutes_is_waited_for(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within them the machine is ended by the run itself, and confirmed."""
    seller, delivery = elsewhere(), SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, PAID)
    away: list[int] = []

    def happen(nap: int) -> None:
        if nap == 2:
            delivery._deliver(plan)
        seller.is_away = 2 <= nap < 8
        away.append(nap) if seller.is_away else None

    napping(monkeypatch, happen)
    work(ready, plan, seller).wait()
    assert away == [2, 3, 4, 5, 6, 7]
    assert LeaseBook(ready.database).live() == ()


def test_a_revoked_tokens_machine_ends_before_its_run_is_judged(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the token is renewed the reaper ends it, though gate and rollout go on for hours."""
    seller, delivery = Revoked(), SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, PAID)

    def happen(nap: int) -> None:
        if nap == 2:
            seller.revoke()
            delivery._deliver(plan)

    napping(monkeypatch, happen)
    work(ready, plan, seller).wait()
    seller.token_refusal = ""
    assert len(seller.list_ours()) == 1
    reap(LeaseBook(ready.database), [seller])
    assert seller.list_ours() == ()


@pytest.mark.parametrize("fault", ["seller", "store"])
def test_money_is_looked_at_while_others_are_away(
    ready: Context, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A budget that is spent ends the run though nobody says how its machine is, or what it did."""
    seller = elsewhere()
    plan = planned(ready, seller, PAID)
    fired: list[int] = []
    book = LeaseBook(ready.database)

    def away(key: str) -> None:
        fired.append(1)
        raise StoreAway(expected="an answer", got="none", where=key)

    def happen(nap: int) -> None:
        if nap == 2 and fault == "seller":
            seller.is_away = True
            fired.append(1)
        elif nap == 2:
            monkeypatch.setattr(ready.store, "get", away)
        if nap == 4:
            other = MemoryProvider(PAID, name="other")
            terms = Terms(TASK, "run-0000000000000000", PAID.model_copy(update={"provider": "other"}), 0.0,
                          utc_now() + timedelta(hours=1), price=1e6)  # fmt: skip
            book.end(rent(book, other, terms, tmp_ticket).lease_id, "done")
            with book._database.session() as session:
                row = book._row(session, book.of_run("run-0000000000000000")[0].lease_id)
                row.cost = 50.0

    tmp_ticket = tickets.ticket_file(ready, plan.run_id)
    looking_always(monkeypatch, happen)
    monkeypatch.setattr(leaving, "LEFT_AFTER", 0.0)
    with pytest.raises(TrainingFailed, match="budget is spent"):
        at_work(ready, plan, seller, Budget(per_month=10.0)).wait()
    assert fired


def test_a_persons_word_is_heard_while_the_seller_is_away(
    ready: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled run's flow ends though nobody says whether its machine works."""
    seller = elsewhere()
    plan = planned(ready, seller, PAID)

    def happen(nap: int) -> None:
        if nap == 2:
            seller.is_away = True
        if nap == 4:
            runs.close_run(ready, plan.run_id, "cancelled", "by hand")

    looking_always(monkeypatch, happen)
    monkeypatch.setattr(leaving, "LEFT_AFTER", 0.0)
    with pytest.raises(TrainingFailed, match="closed meanwhile, cancelled: by hand"):
        work(ready, plan, seller).wait()


def test_a_machine_that_says_nothing_is_given_up(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs in its boot is not paid until the deadline: the next offer is taken."""
    seller, delivery = elsewhere(), SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, *seller._offers)
    following = work(ready, plan, seller)

    def happen(nap: int) -> None:
        if nap == 2:
            following._silence.since -= following._silence.longest + 1.0
        if nap == 6:
            delivery._deliver(plan)

    looking_always(monkeypatch, happen)
    following.wait()
    leases = LeaseBook(ready.database).of_run(plan.run_id)
    assert [lease.offer.offer_id for lease in leases] == ["a", "b"]
    assert "nothing came of it for 60 minutes" in leases[0].end_reason
    assert seller.list_ours() == ()
    assert following._silence.longest >= limits.LEAST_SILENCE


def test_a_trainer_that_delivered_and_ended_counts_as_no_death(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease says why the machine ended, and its offer is not blamed for it."""
    napping(monkeypatch)
    seller = SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, PAID)
    work(ready, plan, seller).wait()
    (lease,) = LeaseBook(ready.database).of_run(plan.run_id)
    assert lease.end_reason == "the run delivered its result"


def test_a_bill_that_cannot_be_shown_fails_no_training(
    ready: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect away at the beginning: the block works, and the bill is told to be missing."""
    tried: list[str] = []

    def away(*_: object, key: str, **__: object) -> None:
        tried.append(key)
        raise OSError("no Prefect")

    monkeypatch.setattr("prefect.artifacts.create_table_artifact", away)
    worked = False
    with billing.billed(ready, TASK, "run-0123456789abcdef"):
        worked = True
    assert worked
    assert tried == ["run-0123456789abcdef-bill"] * 2
    assert caplog.text.count("retrain.bill_not_shown") == 1
