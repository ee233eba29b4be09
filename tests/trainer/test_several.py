"""Train in two processes with torchrun: gloo on processors stands for NCCL on cards."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.helpers import wait_until
from tests.trainer.conftest import job_for, parent_of
from tests.trainer.dying import dies_after
from trainer.backend import run_child, run_to_end
from trainer.backend_job import CHECKPOINT_FILE, BackendEvent
from trainer.dataset import DatasetOnDisk
from trainer.errors import MemoryExhausted
from trainer.memory import SimulatedMemory, Surge

_CHILD = "trainer.ultralytics_backend.child"


def ranks_below(pid: int) -> list[psutil.Process]:
    """Return the training processes that a process started, however deep."""
    found = psutil.Process(pid).children(recursive=True)
    return [one for one in found if _CHILD in one.cmdline()]


def gone(processes: list[psutil.Process]) -> bool:
    """Say whether all of them have ended."""
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


def test_the_death_of_one_process_ends_all_and_the_run_goes_on(
    dataset: DatasetOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes hold the same weights; one is killed, the other ends too, and the next start resumes."""
    death = dies_after(monkeypatch, tmp_path / "died", "epoch", 2)
    job = job_for(dataset, tmp_path, devices=2, epochs=4, batch=4, accumulation=2, export=False)
    events: list[BackendEvent] = []
    result = run_to_end(job, events.append)
    assert death.together == 2
    wait_until(lambda: gone(death.siblings), 10, "both processes' end")
    assert result.weights.is_file()
    epochs = [event for event in events if event.kind == "epoch"]
    assert sorted({event.epoch for event in epochs}) == [1, 2, 3, 4]
    assert len(epochs) <= 5, "each epoch is told by one process"
    assert all(event.data["devices_alike"] for event in epochs)
    settings = epochs[-1].data["settings"]
    assert (settings["devices"], settings["batch"], settings["nbs"]) == (2, 4, 8)
    assert [event.kind for event in events].count("resumed") == 1
    assert [event.kind for event in events].count("started") == 2


def test_processes_of_several_devices_die_with_the_run(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """SIGKILL of the parent ends torchrun and every process below it."""
    job = job_for(dataset, tmp_path, devices=2, epochs=500, export=False)
    parent = parent_of(job, tmp_path)
    try:
        wait_until((tmp_path / CHECKPOINT_FILE).is_file, 100, "a first checkpoint")
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(ranks_below(parent.pid)) == 2
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: gone(below), 10, "the end of all")


def test_memory_that_runs_out_in_any_process_is_told(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """What ran out and when reaches the parent, and the other process's broken connection does not hide it."""
    card = SimulatedMemory(card_bytes=8 * 2**20, fixed_bytes=2**20, surges=(Surge(moment="loss", step=2),))
    with pytest.raises(MemoryExhausted) as caught:
        run_child(job_for(dataset, tmp_path, devices=2, simulated_memory=card))
    trouble = caught.value.trouble
    assert (trouble.kind, trouble.moment, trouble.epoch, trouble.step) == ("device", "loss", 1, 2)
