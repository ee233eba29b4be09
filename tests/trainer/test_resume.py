"""Kill children and parents, tear checkpoints, and see training go on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from tests.helpers import ROOT, wait_until
from tests.trainer.conftest import job_for
from trainer.backend import run_child, run_to_end
from trainer.backend_job import CHECKPOINT_FILE, EVENTS_FILE, BackendEvent, BackendJob
from trainer.dataset import DatasetOnDisk
from trainer.errors import BackendFailed

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


class Killer:
    """Kill the child at its first event of an epoch, once, and keep every event."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.fired = 0
        self.events: list[BackendEvent] = []

    def __call__(self, event: BackendEvent) -> None:
        self.events.append(event)
        if event.kind == "epoch" and event.epoch == self.epoch and not self.fired:
            self.fired += 1
            for child in psutil.Process().children():
                if "trainer.ultralytics_backend.child" in child.cmdline():
                    child.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("epoch", [1, EPOCHS - 1])
def test_a_killed_child_repeats_at_most_one_epoch_and_ends_with_the_same_weights(
    dataset: DatasetOnDisk, tmp_path: Path, uninterrupted: dict[str, torch.Tensor], epoch: int
) -> None:
    """After SIGKILL the next child continues from the last checkpoint, bit for bit."""
    killer = Killer(epoch)
    result = run_to_end(job_for(dataset, tmp_path, epochs=EPOCHS, export=False), killer)
    assert killer.fired == 1
    assert result.weights.is_file()
    done = [event.epoch for event in killer.events if event.kind == "epoch"]
    assert sorted(set(done)) == list(range(1, EPOCHS + 1))
    assert len(done) - len(set(done)) <= 1
    assert any(event.kind == "resumed" for event in killer.events)
    after = weights_of(tmp_path / CHECKPOINT_FILE)
    assert all(torch.equal(after[name], tensor) for name, tensor in uninterrupted.items())


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
    code = (
        "import sys; from pathlib import Path\n"
        "from trainer.backend import run_child\n"
        "from trainer.backend_job import BackendJob\n"
        "run_child(BackendJob.model_validate_json(Path(sys.argv[1]).read_bytes()))\n"
    )
    asked = tmp_path / "asked.json"
    asked.write_text(job.model_dump_json())
    parent = subprocess.Popen([sys.executable, "-c", code, str(asked)], cwd=ROOT)
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


def test_the_job_survives_being_written_and_read(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """A job read back from its file is the same job."""
    job = job_for(dataset, tmp_path)
    assert BackendJob.model_validate_json(job.model_dump_json()) == job
