"""Take a retraining through all its steps with a simulated trainer, and kill the flow wherever it writes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from fleet_contracts import decode, keys, utc_now
from fleet_contracts.judging import Candidate, GateReport
from fleet_contracts.releases import DeviceReport
from fleet_contracts.training import TrainTicket
from flows.champion import champion
from flows.context import Context
from flows.database.schema import CandidateRow, ChampionRow, LeaseRow, RolloutRow, RunRow
from flows.gpus.errors import LaunchRefused
from flows.gpus.leases import LeaseBook
from flows.ingest.devices import take_report
from flows.retrain import promotion, runs, steps, tickets, training
from flows.retrain.errors import AnotherAtWork, CandidateBroken, TrainingFailed
from flows.store import MemoryStore
from tests.flows.kit import DEVICE, TASK, sent_and_labelled, with_task
from tests.flows.retrain.simulated import (
    BLIND,
    GOOD,
    DeadlyStore,
    KilledHere,
    SimulatedTrainer,
    attempt,
)
from tests.helpers import own_sleep


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause: the simulated trainer works at once."""
    own_sleep(monkeypatch, lambda _: None)


def count(ctx: Context, row: type) -> int:
    """Count a table's rows."""
    with ctx.database.reader() as session:
        return session.scalar(select(func.count()).select_from(row)) or 0


def test_labels_become_a_release_and_a_champion(ready: Context, tmp_path: Path) -> None:
    """Enough labels give one run, one candidate, one release and a new champion that the next run starts from."""
    trainer = SimulatedTrainer(ready, tmp_path)
    outcome = attempt(ready, trainer)
    assert outcome.state == "finished"
    assert [event.kind for event in outcome.events] == ["started", "epoch", "finished"]
    now = champion(ready, TASK)
    assert now is not None
    assert (now.release_version, now.run_id, now.kind) == (2, outcome.run, "run")
    policy = promotion.repository(ready).channel_policy(TASK, "stable")
    assert policy is not None
    assert policy.latest == 2
    start = runs.choose_start(ready, TASK)
    assert (start.weights.kind, start.weights.sha256) == ("champion", now.weights_sha256)
    assert ready.store.stat(start.weights.key) is not None
    assert LeaseBook(ready.database).live() == ()
    assert trainer.list_ours() == ()


def test_nothing_new_is_nothing_to_do(ready: Context, tmp_path: Path) -> None:
    """After a release, the same labels do not start another run unless a person asks."""
    trainer = SimulatedTrainer(ready, tmp_path)
    attempt(ready, trainer)
    again = attempt(ready, trainer)
    assert "no verified new labels" in again.state
    assert len(trainer.launches) == 1


@pytest.mark.parametrize("writes", range(1, 20))
def test_killed_after_any_write_it_goes_on(
    ready: Context, store: DeadlyStore, tmp_path: Path, writes: int
) -> None:
    """A flow killed after its n-th write is followed by one that ends with exactly one of everything."""
    trainer = SimulatedTrainer(ready, tmp_path)
    store.writes_left = writes
    with pytest.raises(KilledHere):
        attempt(ready, trainer)
    assert store.died == 1
    store.writes_left = None
    attempt(ready, trainer)
    assert count(ready, RunRow) == count(ready, CandidateRow) == count(ready, RolloutRow) == 1
    assert count(ready, ChampionRow) == 2
    assert [one.version for one in promotion.repository(ready).releases(TASK, "stable")] == [1, 2]
    assert len(trainer.launches) == 1
    assert LeaseBook(ready.database).live() == ()


def test_refused_candidate_is_recorded_and_not_tried_again(ready: Context, tmp_path: Path) -> None:
    """A candidate that sees nothing is refused in words, releases nothing, and its data train no second time."""
    trainer = SimulatedTrainer(ready, tmp_path, model=BLIND)
    outcome = attempt(ready, trainer)
    assert outcome.state == "refused"
    with ready.database.reader() as session:
        run = session.get(RunRow, outcome.run)
        candidate = session.get(CandidateRow, outcome.run)
    assert run is not None
    assert candidate is not None
    assert "expected" in run.reason
    assert (candidate.state, candidate.release_version) == ("refused", None)
    before = champion(ready, TASK)
    assert before is not None
    assert before.release_version == 1
    again = attempt(ready, trainer, force=True)
    assert again.run == ""
    assert "was refused" in again.state
    assert len(trainer.launches) == 1


def test_verdict_stands(ready: Context, tmp_path: Path) -> None:
    """A second attempt after the verdict reads it and does not judge again."""
    outcome = attempt(ready, SimulatedTrainer(ready, tmp_path))
    key = keys.candidate(TASK, outcome.run, "gate.json")
    first = decode(GateReport, ready.store.get(key), where=key)
    plan = steps.prepare(ready, _run(ready, outcome.run), SimulatedTrainer(ready, tmp_path))
    _, again = steps.judge(ready, plan)
    assert again.judged_at == first.judged_at


def test_dead_machines_are_replaced(ready: Context, tmp_path: Path) -> None:
    """A machine that dies without a word is followed by another, each under a lease of its own."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.deaths = 3
    assert attempt(ready, trainer).state == "finished"
    assert len(trainer.launches) == 4
    assert count(ready, LeaseRow) == 4
    assert LeaseBook(ready.database).live() == ()


def test_trainer_that_gives_up_once_is_started_again(ready: Context, tmp_path: Path) -> None:
    """One failure may have been the network's fault; the second closes the run with its reason."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.failures = 1
    assert attempt(ready, trainer).state == "finished"


def test_trainer_that_gives_up_twice_ends_the_attempt(ready: Context, tmp_path: Path) -> None:
    """The second failure in a row is told in the trainer's own words, and no machine is kept."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.failures = 9
    with pytest.raises(TrainingFailed, match="out of luck"):
        attempt(ready, trainer)
    assert len(trainer.launches) == 2
    assert trainer.list_ours() == ()
    assert LeaseBook(ready.database).live() == ()


def test_failed_run_can_be_opened_again(ready: Context, tmp_path: Path) -> None:
    """A run closed as failed goes on under its name; what its trainer said before is not held against it."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.failures = 2
    with pytest.raises(TrainingFailed):
        attempt(ready, trainer)
    runs.close_run(ready, _only_run(ready).run_id, "failed", "out of luck")
    trainer.failures = 1
    assert attempt(ready, trainer, force=True).state == "finished"
    assert count(ready, RunRow) == 1


def test_refusing_provider_is_told(ready: Context, tmp_path: Path) -> None:
    """A provider that will not start anything ends the attempt, with no live lease left."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.refusal = "sold out"
    with pytest.raises(LaunchRefused, match="sold out"):
        attempt(ready, trainer)
    assert LeaseBook(ready.database).live() == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_id": "0" * 64}, "sha256"),
        ({"weights_sha256": "0" * 64}, "sha256"),
        ({"run_id": "run-0000000000000000"}, "run-"),
        ({"candidate_id": "run-0000000000000000"}, "run-"),
        ({"start_sha256": "0" * 64}, "0000"),
    ],
)
def test_result_that_lies_is_not_used(
    ready: Context, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    """Files with other hashes than described, or another run's result, make no candidate."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.change = lambda candidate: Candidate.model_validate({**candidate.model_dump(), **change})
    with pytest.raises(CandidateBroken, match=told):
        attempt(ready, trainer)
    assert count(ready, CandidateRow) == 0


def test_one_flow_a_task(ready: Context, tmp_path: Path) -> None:
    """While a flow works on a task, another one leaves at once."""
    with runs.alone(ready, TASK), pytest.raises(AnotherAtWork):
        attempt(ready, SimulatedTrainer(ready, tmp_path))
    assert attempt(ready, SimulatedTrainer(ready, tmp_path)).state == "finished"


def test_active_run_goes_before_new_labels(ready: Context, store: DeadlyStore, tmp_path: Path) -> None:
    """Labels that arrive after a flow died do not open a second run: the first is finished."""
    trainer = SimulatedTrainer(ready, tmp_path)
    trainer.is_away = True
    run = steps.begin(ready, TASK).run
    assert run is not None
    sent_and_labelled(ready, 12, first=100)
    trainer.is_away = False
    assert attempt(ready, trainer).run == run.run_id
    assert count(ready, RunRow) == 1


def test_device_that_takes_it_back_stops_the_champion(ready: Context, tmp_path: Path) -> None:
    """A device that rolled back leaves the old champion, and the channel no longer offers the release."""
    ctx = with_task(ready, devices=(DEVICE,))
    trainer = SimulatedTrainer(ctx, tmp_path)
    run = steps.begin(ctx, TASK).run
    assert run is not None
    plan = steps.prepare(ctx, run, trainer)
    steps.train(ctx, plan, lambda _: None, trainer)
    collected, gate = steps.judge(ctx, plan)
    made, rollout = steps.release(ctx, plan, collected, gate)
    assert rollout.state == "rolling"
    report = DeviceReport(
        task_id=TASK, device_id=DEVICE, reported_at=utc_now(), agent_version="0.1.0", state="rolled_back",
        release_version=1, rollout_id=rollout.rollout_id, problem="probe 0 differs",
    )  # fmt: skip
    take_report(ctx, report)
    assert steps.conclude(ctx, gate, made, rollout) is None
    now = champion(ctx, TASK)
    policy = promotion.repository(ctx).channel_policy(TASK, "stable")
    assert now is not None
    assert policy is not None
    assert now.release_version == 1
    assert policy.allowed == (1,)


def test_ticket_names_what_the_trainer_may_touch_and_nothing_else(ready: Context, tmp_path: Path) -> None:
    """A ticket writes into its own run alone, carries no key, and lies in a file of its owner."""
    trainer = SimulatedTrainer(ready, tmp_path)
    outcome = attempt(ready, trainer)
    file = tickets.ticket_file(ready, outcome.run)
    assert file.stat().st_mode & 0o777 == 0o600
    ticket = decode(TrainTicket, file.read_bytes(), where="ticket")
    assert set(keys.RUN_OUTPUTS) <= set(ticket.put_urls)
    assert "plan.json" not in ticket.put_urls
    assert "ticket.json" not in ticket.put_urls
    assert all(f"/runs/{outcome.run}/" in url for url in ticket.put_urls.values())
    assert all("verb=PUT" in url for url in ticket.put_urls.values())
    assert "verb=GET" in ticket.renew_url
    assert not tickets.must_renew(ticket, utc_now())
    assert tickets.must_renew(ticket, utc_now() + tickets.LIFETIME / 2 + timedelta(seconds=5))


def test_first_attempt_names_its_start_for_good(ready: Context, tmp_path: Path) -> None:
    """A run keeps the weights it was opened with, also when another champion comes meanwhile."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    start = runs.start_with(ready, TASK, run.start_sha256)
    assert start.weights.sha256 == run.start_sha256
    trainer = SimulatedTrainer(ready, tmp_path, model=GOOD)
    assert steps.prepare(ready, run, trainer).start.sha256 == run.start_sha256


def _run(ctx: Context, run_id: str) -> RunRow:
    with ctx.database.reader() as session:
        found = session.get(RunRow, run_id)
    assert found is not None
    return found


def _only_run(ctx: Context) -> RunRow:
    with ctx.database.reader() as session:
        (found,) = session.scalars(select(RunRow)).all()
    return found


def test_store_that_is_away_costs_time_only(ready: Context, tmp_path: Path) -> None:
    """While the store is away the flow waits; when it is back the run goes on."""
    trainer = SimulatedTrainer(ready, tmp_path)
    run = steps.begin(ready, TASK).run
    assert run is not None
    plan = steps.prepare(ready, run, trainer)
    inputs = tickets.Inputs((), runs.start_with(ready, TASK, plan.start.sha256))
    memory = ready.store
    assert isinstance(memory, MemoryStore)
    waits: list[float] = []

    def come_back(seconds: float) -> None:
        waits.append(seconds)
        memory.away = len(waits) < 5

    memory.away = True
    ground = training.Ground({trainer.name: trainer}, LeaseBook(ready.database), lambda _: None)
    work = training.Training(ready, plan, inputs, ground)
    with pytest.MonkeyPatch.context() as patch:
        own_sleep(patch, come_back)
        work.wait()
    assert len(waits) >= 5
    assert ready.store.stat(keys.run(TASK, run.run_id, "result.json")) is not None
