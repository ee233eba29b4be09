"""Kill children and parents, tear checkpoints, and see training go on as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import torch

from fleet_contracts.base import encode
from tests.helpers import wait_until
from tests.trainer.conftest import job_for, parent_of
from tests.trainer.dying import Death, dies_after
from tests.trainer.scenes import MODEL
from tests.trainer.store import RunStore
from trainer.backend import run_child, run_to_end
from trainer.backend_job import (
    CHECKPOINT_FILE,
    EVENTS_FILE,
    PREVIOUS_FILE,
    BackendEvent,
    BackendJob,
    BackendResult,
)
from trainer.dataset import DatasetOnDisk
from trainer.errors import BackendFailed
from trainer.run import run_ticket

EPOCHS = 4


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Return a checkpoint's live weights."""
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


@pytest.fixture(scope="module")
def uninterrupted(
    dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """Return the live weights of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("calm")
    run_child(job_for(dataset, out, epochs=EPOCHS, export=False))
    return weights_of(out / CHECKPOINT_FILE)


@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_a_killed_child_repeats_at_most_one_epoch_and_ends_with_the_same_weights(
    dataset: DatasetOnDisk,
    tmp_path: Path,
    uninterrupted: dict[str, torch.Tensor],
    epoch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After SIGKILL the next child continues from the last checkpoint, bit for bit."""
    death = dies_after(monkeypatch, tmp_path / "died", "epoch", epoch)
    events: list[BackendEvent] = []
    result = run_to_end(job_for(dataset, tmp_path, epochs=EPOCHS, export=False), events.append)
    assert death.fired
    assert result.weights.is_file()
    done = [event.epoch for event in events if event.kind == "epoch"]
    assert sorted(set(done)) == list(range(1, EPOCHS + 1))
    assert len(done) - len(set(done)) <= 1
    assert [event.epoch for event in events if event.kind == "resumed"] == [epoch]
    after = weights_of(tmp_path / CHECKPOINT_FILE)
    assert all(torch.equal(after[name], tensor) for name, tensor in uninterrupted.items())


def killed_after(job: BackendJob, death: Death) -> list[BackendEvent]:
    """Run a child that dies by SIGKILL where it was told to, and return what it said till then."""
    said: list[BackendEvent] = []
    with pytest.raises(BackendFailed, match="SIGKILL"):
        run_child(job, said.append)
    assert death.fired
    return said


def test_a_child_killed_within_an_epoch_goes_on_within_it(
    dataset: DatasetOnDisk,
    tmp_path: Path,
    uninterrupted: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights resumed with are those kept, the epoch's rest follows, and worker processes change nothing."""
    job = job_for(dataset, tmp_path, epochs=EPOCHS, export=False, workers=2, checkpoint_minutes=1e-6)
    said = killed_after(job, dies_after(monkeypatch, tmp_path / "died", "checkpoint", 2))
    kept = {(one.epoch, one.data["images"]): one.data["weights"] for one in said if one.kind == "checkpoint"}
    assert {(0, 4), (0, 8), (1, 4), (1, 8), (2, 4)} <= set(kept)
    later: list[BackendEvent] = []
    run_child(job, later.append)
    resumed = next(event for event in later if event.kind == "resumed")
    assert resumed.epoch == 2
    assert resumed.data["weights"] == kept[(2, resumed.data["images"])]
    epochs = {event.epoch: event.data for event in (*said, *later) if event.kind == "epoch"}
    assert sorted(epochs) == [1, 2, 3, 4]
    rates = [row["learning_rate"] for row in epochs.values()]
    assert rates[1:] == sorted(rates[1:], reverse=True), "the rate goes on falling where it was"
    assert epochs[4]["settings"]["workers"] == 2
    after = weights_of(tmp_path / CHECKPOINT_FILE)
    assert all(torch.equal(after[name], tensor) for name, tensor in uninterrupted.items())


def test_a_torn_newest_checkpoint_falls_back_to_the_one_before(
    dataset: DatasetOnDisk,
    tmp_path: Path,
    uninterrupted: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One bit that is not what was written is noticed; the run goes on one epoch earlier, says so, and ends alike."""
    job = job_for(dataset, tmp_path, epochs=EPOCHS, export=False)
    killed_after(job, dies_after(monkeypatch, tmp_path / "died", "epoch", 3))
    assert (tmp_path / PREVIOUS_FILE).is_file()
    newest = tmp_path / CHECKPOINT_FILE
    before = torch.load(newest, weights_only=True)["epochs"] - 1
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    later: list[BackendEvent] = []
    run_child(job, later.append)
    watch, resumed = (next(one for one in later if one.kind == kind) for kind in ("watch", "resumed"))
    assert "not what was written" in watch.data["why"] or "not a whole checkpoint" in watch.data["why"]
    assert resumed.epoch == before
    after = weights_of(newest)
    assert all(torch.equal(after[name], tensor) for name, tensor in uninterrupted.items())


def test_a_checkpoint_of_another_network_is_not_continued(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """Where the lineage is the same but the network is not, the first epoch says why it was trained anew."""
    wider = tmp_path / "wider.yaml"
    wider.write_text(MODEL.read_text().replace("[24, 3, 2]", "[40, 3, 2]"))
    run_child(job_for(dataset, tmp_path / "out", epochs=1, export=False, lineage="run/stage-0"))
    events: list[BackendEvent] = []
    job = job_for(dataset, tmp_path / "out", epochs=1, export=False, lineage="run/stage-0", start=str(wider))
    run_child(job, events.append)
    assert [event.kind for event in events] == ["started", "epoch", "finished"]
    assert "of another network" in str(events[1].data["not_continued"])


def test_a_torn_checkpoint_is_as_good_as_none(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """A checkpoint cut short is not continued, and the run trains all its epochs."""
    job = job_for(dataset, tmp_path, epochs=2, export=False)
    run_child(job)
    whole = (tmp_path / CHECKPOINT_FILE).read_bytes()
    (tmp_path / CHECKPOINT_FILE).write_bytes(whole[: len(whole) // 2])
    events: list[BackendEvent] = []
    run_child(job, events.append)
    assert [event.kind for event in events] == ["started", "epoch", "epoch", "finished"]


def test_a_checkpoint_of_another_job_is_not_continued(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """A job that differs in what decides its outcome starts anew."""
    run_child(job_for(dataset, tmp_path, epochs=2, export=False))
    events: list[BackendEvent] = []
    run_child(job_for(dataset, tmp_path, epochs=2, export=False, learning_rate=5e-4), events.append)
    assert "resumed" not in [event.kind for event in events]


def test_a_run_killed_after_its_last_epoch_only_exports(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """When every epoch is done, another start trains none and still writes the result."""
    job = job_for(dataset, tmp_path, epochs=2, export=False)
    first = run_child(job)
    events: list[BackendEvent] = []
    second = run_child(job, events.append)
    assert [event.kind for event in events] == ["started", "resumed", "finished"]
    assert second.weights_sha256 == first.weights_sha256


def test_an_epoch_whose_report_died_with_the_child_is_reported_by_the_next(
    dataset: DatasetOnDisk, tmp_path: Path
) -> None:
    """A death between checkpoint and report costs the record no epoch."""
    job = job_for(dataset, tmp_path, epochs=2, export=False)
    run_child(job)
    lines = (tmp_path / EVENTS_FILE).read_text().splitlines(keepends=True)
    unsaid = [number for number, line in enumerate(lines) if BackendEvent.from_line(line).epoch == 2][0]
    (tmp_path / EVENTS_FILE).write_text("".join(lines[:unsaid]))
    events: list[BackendEvent] = []
    run_child(job, events.append)
    assert [event.kind for event in events] == ["started", "epoch", "resumed", "finished"]
    assert events[1] == BackendEvent.from_line(lines[unsaid])


def test_a_child_that_dies_again_and_again_is_given_up(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """Without progress between deaths the run ends with the reason after a few starts."""
    job = job_for(dataset, tmp_path, start="no-such-model.yaml")
    starts: list[BackendEvent] = []
    with pytest.raises(BackendFailed, match="no-such-model"):
        run_to_end(job, starts.append, restarts=1)
    assert (tmp_path / "child.log").read_text().count("Traceback (most recent call last)") >= 2


def test_a_child_dies_with_its_parent(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """SIGKILL of the parent ends the child too, so that nothing trains without an owner."""
    job = job_for(dataset, tmp_path, epochs=200, export=False)
    parent = parent_of(job, tmp_path)
    try:
        wait_until((tmp_path / CHECKPOINT_FILE).is_file, 60, "a first checkpoint")
        children = psutil.Process(parent.pid).children()
        assert len(children) == 1
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until(
        lambda: not children[0].is_running() or children[0].status() == "zombie", 10, "the child's end"
    )


def test_parts_of_epochs_are_uploaded_and_are_no_events_of_the_run(
    trained: tuple[BackendResult, list[BackendEvent]], tmp_path: Path
) -> None:
    """Checkpoints within epochs go the way of all checkpoints; the record and the event segments stay as they are."""
    store = RunStore(trained[0].weights.read_bytes(), stages=(2,))
    store.put("plan.json", encode(store.plan.model_copy(update={"checkpoint_minutes": 1e-6})))
    run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    assert store.events() == ["started", "epoch", "epoch", "exported", "finished", "finished"]
    slots = [url for verb, url, _ in store.wire.log if verb == "PUT" and "/checkpoint-" in url]
    assert len(slots) > 2, "more uploads than epochs"


def test_the_job_survives_being_written_and_read(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """A job read back from its file is the same job."""
    job = job_for(dataset, tmp_path)
    assert BackendJob.model_validate_json(job.model_dump_json()) == job
