"""Follow runs on rented machines: unfit ones, sellers that fall silent, tokens that are revoked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.training import GpuOffer, Lease, RunEvent, TrainPlan
from flows.context import Context
from flows.gpus.errors import LaunchRefused, TokenRefused
from flows.gpus.leases import LeaseBook
from flows.gpus.memory import MemoryProvider
from flows.gpus.reaper import reap
from flows.retrain import runs, steps, tickets, training
from flows.retrain.errors import TrainingFailed
from tests.flows.kit import TASK
from tests.flows.retrain.simulated import OFFER, SimulatedTrainer
from tests.helpers import own_sleep
from trainer.report_back import CheckpointNote

PAID = GpuOffer(
    provider="memory", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=16384, on_demand_price=1.0,
    priced_at=utc_now(),
)  # fmt: skip


def planned(ctx: Context, provider: MemoryProvider, *offers: GpuOffer) -> TrainPlan:
    """Open a run and plan it for the first of a provider's offers."""
    run = steps.begin(ctx, TASK).run
    assert run is not None
    plan = steps.prepare(ctx, run, MemoryProvider(OFFER))
    provider._offers = offers
    return plan.model_copy(update={"offer": offers[0], "deadline": utc_now() + timedelta(hours=3)})


def work(ctx: Context, plan: TrainPlan, *providers: MemoryProvider) -> training.Training:
    """Return what follows the run."""
    inputs = tickets.Inputs((), runs.start_with(ctx, TASK, plan.start.sha256))
    known = {one.name: one for one in providers}
    return training.Training(
        ctx, plan, inputs, training.Ground(known, LeaseBook(ctx.database), lambda _: None)
    )


def napping(monkeypatch: pytest.MonkeyPatch, each: Callable[[int], None] = lambda _: None) -> None:
    """Let no time pass, and end a wait that would never end."""
    naps = 0

    def nap(_: float) -> None:
        nonlocal naps
        naps += 1
        assert naps < 400, "it would wait for ever"
        each(naps)

    own_sleep(monkeypatch, nap)
    # Every look at the seller is a real one: no time passes that would make an answer old.
    monkeypatch.setattr(training, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(training, "ENDING_SECONDS", 0.0)


class Liar(SimulatedTrainer):
    """Be a seller elsewhere whose first machines are not what they were sold as."""

    def __init__(self, ctx: Context, folder: Path, unfit: int) -> None:
        super().__init__(ctx, folder)
        self.elsewhere = True
        self.unfit = unfit
        self.rented: list[str] = []

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Lend a machine that says it is unfit, or one that works."""
        self.rented.append(lease.offer.offer_id)
        if self.unfit == 0:
            return super().launch(lease, ticket)
        self.unfit -= 1
        data = {"error": "8 GiB of memory where 16 were promised", "unfit": True, "reasons": ["memory"]}
        event = RunEvent(task_id=TASK, run_id=lease.run_id, number=0, at=utc_now(), kind="failed", data=data)
        self._ctx.store.put(keys.run(TASK, lease.run_id, "failure.json"), encode(event))
        return MemoryProvider.launch(self, lease, ticket)


def test_an_unfit_machine_is_left_for_the_next_offer(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that lies about memory costs one short lease; the run is trained on the next offer."""
    napping(monkeypatch)
    seller = Liar(ready, tmp_path, unfit=1)
    plan = planned(ready, seller, PAID, PAID.model_copy(update={"offer_id": "b", "on_demand_price": 2.0}))
    work(ready, plan, seller).wait()
    assert seller.rented == ["a", "b"]
    reasons = [lease.end_reason for lease in LeaseBook(ready.database).of_run(plan.run_id)]
    assert "unfit" in reasons[0]
    assert "8 GiB" in reasons[0]
    assert seller.list_ours() == ()


def test_a_run_that_finds_no_fit_machine_ends_with_the_reason(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every machine is unfit the run ends after a bounded number of them, and says why."""
    napping(monkeypatch)
    seller = Liar(ready, tmp_path, unfit=99)
    offers = [PAID.model_copy(update={"offer_id": f"o{number}"}) for number in range(30)]
    plan = planned(ready, seller, *offers)
    with pytest.raises(TrainingFailed, match="8 GiB"):
        work(ready, plan, seller).wait()
    assert len(seller.rented) == training.MOST_UNFIT
    assert len(set(seller.rented)) == training.MOST_UNFIT, "none is rented twice"
    assert seller.list_ours() == ()


class Revoked(MemoryProvider):
    """Be a seller elsewhere whose machine works on while our token is revoked."""

    def __init__(self) -> None:
        super().__init__(PAID)
        self.elsewhere = True
        self.refused = 0

    def revoke(self) -> None:
        """Refuse our token from now on."""
        self.token_refusal = "revoked"

    def _answer(self) -> None:
        super()._answer()
        if self.token_refusal:
            self.refused += 1
            raise TokenRefused(expected="a token that is good", got="revoked", where="memory")


def test_a_token_revoked_in_mid_run_costs_neither_run_nor_money(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run takes its result; the machine is left with its lease, and the reaper ends it once it may."""
    seller, delivery = Revoked(), SimulatedTrainer(ready, tmp_path)
    plan = planned(ready, seller, PAID)

    def happen(nap: int) -> None:
        if nap == 2:
            assert len(seller.list_ours()) == 1
            seller.revoke()
        if nap == 6:
            delivery._deliver(plan)

    napping(monkeypatch, happen)
    work(ready, plan, seller).wait()
    assert seller.refused > 0
    book = LeaseBook(ready.database)
    (lease,) = book.live(run_id=plan.run_id)
    assert lease.machine in seller.machines, "nobody could end it yet"
    reap(book, [seller])
    assert lease.machine in seller.machines
    seller.token_refusal = ""
    runs.close_run(ready, plan.run_id, "finished", "delivered")
    reap(book, [seller])
    assert seller.list_ours() == ()
    assert book.live() == ()


def test_a_seller_that_falls_silent_does_not_hide_what_the_machine_uploads(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and result are read while the seller is away; the machine ends when it is back."""
    seller, delivery = MemoryProvider(PAID), SimulatedTrainer(ready, tmp_path)
    seller.elsewhere = True
    plan = planned(ready, seller, PAID)
    heard: list[int] = []

    def happen(nap: int) -> None:
        if nap == 2:
            seller.is_away = True
            event = RunEvent(task_id=TASK, run_id=plan.run_id, number=0, at=utc_now(), kind="epoch", epoch=1)
            ready.store.put(keys.run_event(TASK, plan.run_id, 0), encode(event))
        if nap == 5:
            delivery._deliver(plan)
        if nap == 9:
            assert heard == [1], "the epoch was told while the seller was away"
            seller.is_away = False

    napping(monkeypatch, happen)
    following = work(ready, plan, seller)
    object.__setattr__(following._ground, "told", lambda event: heard.append(event.epoch))
    following.wait()
    assert seller.list_ours() == ()
    assert LeaseBook(ready.database).live() == ()


def test_nothing_to_be_had_until_the_deadline_says_who_refused(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that never got a machine ends at its deadline, with the seller's last words."""
    seller = MemoryProvider(PAID)
    seller.elsewhere, seller.refusal = True, "quota of 0 T4"
    plan = planned(ready, seller, PAID)
    waiting = work(ready, plan, seller)

    def happen(nap: int) -> None:
        if nap == 3:
            waiting._plan = plan.model_copy(update={"deadline": utc_now()})
        waiting._look_again = 0.0

    napping(monkeypatch, happen)
    with pytest.raises(TrainingFailed, match="quota of 0 T4"):
        waiting.wait()
    assert LeaseBook(ready.database).live() == ()


def test_a_machine_of_our_own_that_refuses_is_told_at_once(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would change by waiting for it."""
    napping(monkeypatch)
    own = MemoryProvider(PAID)
    own.refusal = "no trainer installed"
    plan = planned(ready, own, PAID)
    with pytest.raises(LaunchRefused, match="no trainer"):
        work(ready, plan, own).wait()


@pytest.mark.parametrize(("kept", "moved"), [(2, True), (1, False)])
def test_a_run_moves_to_a_cheaper_machine_right_behind_a_checkpoint(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, moved: bool
) -> None:
    """Once all that was told lies in the bucket nothing is lost by a move; before that the checkpoint comes first."""
    seller, delivery = MemoryProvider(PAID), SimulatedTrainer(ready, tmp_path)
    seller.elsewhere = True
    plan = planned(ready, seller, PAID)
    plan = plan.model_copy(update={"stages": (plan.stages[0].model_copy(update={"epochs": 40}),)})
    following = work(ready, plan, seller)
    note = CheckpointNote(slot="checkpoint-a.pt", stage=0, epoch=kept, sha256="a" * 64, size_bytes=1)

    def happen(nap: int) -> None:
        if nap == 2:
            event = RunEvent(task_id=TASK, run_id=plan.run_id, number=0, at=utc_now(), kind="epoch", epoch=2)
            ready.store.put(keys.run_event(TASK, plan.run_id, 0), encode(event))
            ready.store.put(keys.run(TASK, plan.run_id, "checkpoint.json"), encode(note))
            seller._offers = (PAID, PAID.model_copy(update={"offer_id": "b", "on_demand_price": 0.1}))
        if nap == 6:
            delivery._deliver(plan)
        following._look_again = 0.0

    napping(monkeypatch, happen)
    following.wait()
    offers = [lease.offer.offer_id for lease in LeaseBook(ready.database).of_run(plan.run_id)]
    assert offers == (["a", "b"] if moved else ["a"])
