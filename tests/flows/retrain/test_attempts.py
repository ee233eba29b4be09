"""Run the flow's own wiring, without a Prefect server, into errors that stay, errors that pass, and late days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from sqlalchemy import select

from fleet_contracts import decode, encode, keys, utc_now
from fleet_contracts.training import TrainPlan
from flows.champion import champion
from flows.context import Context
from flows.database.schema import CandidateRow, RunRow
from flows.errors import CannotStart, StoreAway, StoreMissing
from flows.retrain import candidates, flow, judging, runs, steps
from flows.retrain.errors import CandidateBroken, TrainingFailed
from flows.snapshots.load import load_snapshot
from tests.detection.onnx_models import TinyModel
from tests.flows.kit import CLASSES, TASK
from tests.flows.retrain.simulated import GOOD, SimulatedTrainer
from tests.helpers import own_sleep
from trainer.errors import GateMisused

OTHER = TinyModel(rows=GOOD.rows, class_names=CLASSES, features=3)
Work = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without a pause: the simulated trainer works at once."""
    own_sleep(monkeypatch, lambda _: None)


@pytest.fixture
def trainer(ready: Context, tmp_path: Path) -> SimulatedTrainer:
    """Return the provider that the flow trains on."""
    return SimulatedTrainer(ready, tmp_path)


@pytest.fixture
def work(ready: Context, trainer: SimulatedTrainer, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Return the flow's body, with its tasks as the plain functions they wrap."""
    monkeypatch.setattr(steps, "lenders_of", lambda _: (trainer,))
    monkeypatch.setattr(flow, "show", lambda *_: None)
    for name in ("begin", "prepare", "release", "conclude"):
        monkeypatch.setattr(flow, name, getattr(flow, name).fn)
    monkeypatch.setattr(flow, "train", lambda ctx, plan: steps.train(ctx, plan, lambda _: None, trainer))
    monkeypatch.setattr(flow, "judge", lambda ctx, plan: steps.judge(ctx, plan))

    def worked(*, force: bool = False) -> dict[str, str]:
        with disable_run_logger():
            return flow._work(ready, TASK, force=force)

    return worked


def only_run(ctx: Context) -> RunRow:
    """Return the one run of the installation."""
    with ctx.database.reader() as session:
        (found,) = session.scalars(select(RunRow)).all()
    return found


def test_the_body_of_the_flow_releases(ready: Context, work: Work) -> None:
    """What the other tests break works when nothing is broken."""
    assert work()["outcome"] == "released"
    assert only_run(ready).state == "finished"


def test_a_broken_candidate_closes_its_run(ready: Context, work: Work, trainer: SimulatedTrainer) -> None:
    """A result that lies would lie again: the run is closed with the error's name and words."""
    trainer.change = lambda candidate: candidate.model_copy(update={"model_id": "0" * 64})
    with pytest.raises(CandidateBroken):
        work()
    run = only_run(ready)
    assert run.state == "failed"
    assert run.reason.startswith("CandidateBroken: ")


@pytest.mark.parametrize(
    "error",
    [
        StoreMissing(expected="an image", got="none", where="samples"),
        CannotStart(expected="a release", got="none", where="channel"),
        GateMisused(expected="evidence", got="none", where="gate"),
    ],
)
def test_an_error_that_stays_closes_the_run(
    ready: Context, work: Work, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever room it comes from, an error of ours in any step frees the task and comes out of the flow."""

    def broken(ctx: Context, plan: TrainPlan) -> None:
        raise error

    monkeypatch.setattr(flow, "judge", broken)
    with pytest.raises(type(error)):
        work()
    assert only_run(ready).state == "failed"
    assert only_run(ready).reason == f"{type(error).__name__}: {error}"
    assert runs.active_run(ready, TASK) is None


def test_an_error_that_passes_leaves_the_run_open(
    ready: Context, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is away is no verdict and no attempt: the next one goes on with the same run."""

    def away(ctx: Context, plan: TrainPlan) -> None:
        raise StoreAway(expected="an answer", got="none", where="store")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "judge", away)
        with pytest.raises(StoreAway):
            work()
    assert (only_run(ready).state, only_run(ready).attempts) == ("active", 0)
    assert work()["outcome"] == "released"
    assert only_run(ready).attempts == 1


def _set_attempts(ctx: Context, run_id: str, attempts: int) -> None:
    with ctx.database.session() as session:
        row = session.get(RunRow, run_id)
        assert row is not None
        row.attempts = attempts


def test_the_last_attempt_is_worked_on(ready: Context, work: Work) -> None:
    """A run that died many times may still end well."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    _set_attempts(ready, run.run_id, runs.MOST_ATTEMPTS - 1)
    assert work()["outcome"] == "released"


def test_too_many_attempts_close_the_run(ready: Context, work: Work, trainer: SimulatedTrainer) -> None:
    """A run whose flows keep dying is given up without another machine, and a person may ask for it again."""
    run = steps.begin(ready, TASK).run
    assert run is not None
    _set_attempts(ready, run.run_id, runs.MOST_ATTEMPTS)
    with pytest.raises(TrainingFailed, match="within 50 attempts"):
        work()
    assert only_run(ready).state == "failed"
    assert trainer.launches == []
    assert work(force=True)["outcome"] == "released"
    assert only_run(ready).attempts == 1


def _planned(ctx: Context, trainer: SimulatedTrainer, **changes: object) -> tuple[RunRow, TrainPlan]:
    """Open a run and change its plan in the bucket, as if it had been written some hours ago."""
    run = steps.begin(ctx, TASK).run
    assert run is not None
    plan = steps.prepare(ctx, run, trainer).model_copy(update=changes)
    ctx.store.put(keys.run(TASK, run.run_id, "plan.json"), encode(plan))
    return run, plan


@pytest.mark.parametrize("minutes", [-360, 9])
def test_a_free_machine_gets_a_new_deadline(
    ready: Context, work: Work, trainer: SimulatedTrainer, minutes: int
) -> None:
    """An installation that was switched off past the deadline finishes its run; nothing else of the plan moves."""
    run, old = _planned(ready, trainer, deadline=utc_now() + timedelta(minutes=minutes))
    assert work()["outcome"] == "released"
    key = keys.run(TASK, run.run_id, "plan.json")
    new = decode(TrainPlan, ready.store.get(key), where=key)
    assert new.deadline is not None
    assert new.deadline > utc_now() + timedelta(hours=5)
    assert new.model_copy(update={"deadline": old.deadline}) == old


def test_a_deadline_ahead_stands(ready: Context, trainer: SimulatedTrainer) -> None:
    """A plan that has time left is read back as it was written."""
    run, old = _planned(ready, trainer, deadline=utc_now() + timedelta(minutes=30))
    assert steps.prepare(ready, run, trainer) == old


def test_no_machine_is_rented_past_the_deadline(
    ready: Context, work: Work, trainer: SimulatedTrainer
) -> None:
    """Where a machine costs money the deadline bounds the bill: the run fails and names it."""
    rented = trainer.offers()[0].model_copy(update={"on_demand_price": 2.5})
    run, plan = _planned(ready, trainer, deadline=utc_now() - timedelta(minutes=1), offer=rented)
    with pytest.raises(TrainingFailed, match=str(plan.deadline).replace("+", r"\+")):
        work()
    assert trainer.launches == []
    assert only_run(ready).state == "failed"
    assert steps.prepare(ready, run, trainer).deadline == plan.deadline


def test_a_result_in_the_bucket_needs_no_deadline(
    ready: Context, work: Work, trainer: SimulatedTrainer
) -> None:
    """What a rented machine delivered in time is released, however late the flow comes back."""
    rented = trainer.offers()[0].model_copy(update={"on_demand_price": 2.5})
    _, plan = _planned(ready, trainer, deadline=utc_now() - timedelta(hours=9), offer=rented)
    trainer._deliver(plan)
    assert work()["outcome"] == "released"
    assert trainer.launches == []


def test_a_result_replaced_after_the_verdict_is_not_used(
    ready: Context, work: Work, trainer: SimulatedTrainer, tmp_path: Path
) -> None:
    """Whoever holds the ticket cannot put another model where the judged one lies."""
    work()
    run = only_run(ready)
    kept = keys.candidate(TASK, run.run_id, "model.onnx")
    judged = ready.store.get(kept)
    plan = steps.prepare(ready, run, trainer)
    SimulatedTrainer(ready, tmp_path, model=OTHER)._deliver(plan)
    with pytest.raises(CandidateBroken, match="was promoted"):
        steps.judge(ready, plan)
    assert ready.store.get(kept) == judged


def test_a_verdict_on_another_model_is_no_verdict(
    ready: Context, work: Work, trainer: SimulatedTrainer
) -> None:
    """A gate.json that speaks of a model other than the collected one stops the run."""
    work()
    run = only_run(ready)
    plan = steps.prepare(ready, run, trainer)
    collected = candidates.collect(ready, plan)
    other = replace(collected, candidate=collected.candidate.model_copy(update={"model_id": "0" * 64}))
    snapshot = load_snapshot(ready, TASK, plan.snapshot_id)
    assert judging.judge_candidate(ready, collected, snapshot).promoted
    with pytest.raises(CandidateBroken, match=r"gate\.json"):
        judging.judge_candidate(ready, other, snapshot)


def test_a_candidate_is_compared_with_the_champions_own_file(
    ready: Context, work: Work, trainer: SimulatedTrainer
) -> None:
    """Another file under the champion's key would make the comparison worthless: nothing is judged by it."""
    now = champion(ready, TASK)
    assert now is not None
    ready.store.put(now.onnx_key, ready.store.get(now.onnx_key) + b" ")
    with pytest.raises(CannotStart, match="champion's ONNX"):
        work()
    with ready.database.reader() as session:
        (row,) = session.scalars(select(CandidateRow)).all()
    assert (row.state, row.release_version) == ("collected", None)
    assert ready.store.stat(keys.candidate(TASK, row.candidate_id, "gate.json")) is None
