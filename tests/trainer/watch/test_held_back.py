"""Train for real on a disk that takes its time, and read back what the watch found and changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet_contracts.training import MemoryPolicy, WatchPolicy
from tests.trainer.conftest import job_for
from tests.trainer.scenes import NAMES, items
from trainer.backend import run_child, run_to_end
from trainer.backend_job import BackendEvent
from trainer.dataset import DatasetOnDisk, write_dataset
from trainer.ladder.descent import Ladder
from trainer.watch.gpu import SIMULATED_GPU
from trainer.watch.slow_disk import SLOW_DISK

Epochs = list[BackendEvent]


@pytest.fixture(scope="module")
def held_back(tmp_path_factory: pytest.TempPathFactory) -> list[BackendEvent]:
    """Return the events of five epochs whose every image takes 40 ms to read, loaded by no extra process."""
    folder = tmp_path_factory.mktemp("held-back")
    data = write_dataset(folder / "data", NAMES, items(40, val=4))
    job = job_for(data, folder / "out", epochs=5, batch=2, cache="none", workers=0, export=False,
                  watch=WatchPolicy(long_seconds=1.0, allow_cache=False, most_workers=2))  # fmt: skip
    events: list[BackendEvent] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLOW_DISK, "0.04")
        run_child(job, events.append)
    return events


def test_a_slow_disk_is_found_and_its_cure_is_in_force(held_back: Epochs) -> None:
    """The diagnosis says why in numbers, and the next epoch reports the loader processes it got."""
    watch = next(one for one in held_back if one.kind == "watch")
    assert watch.data["kind"] in {"loader", "disk"}  # a disk at work beside us may be seen too
    assert watch.data["evidence"]["wait_share"] > 0.15
    assert watch.data["cure"] == {"workers": [0, 2]}
    workers = [one.data["settings"]["workers"] for one in held_back if one.kind == "epoch"]
    assert workers[: watch.epoch] == [0] * watch.epoch
    assert workers[watch.epoch] == 2


def test_the_wait_of_every_epoch_is_measured(held_back: Epochs) -> None:
    """An image that sleeps is time waited for data; with two processes the wait shrinks."""
    epochs = [one.data for one in held_back if one.kind == "epoch"]
    first, cured = epochs[0], min(epochs[2:], key=lambda one: one["wait_seconds"])
    assert first["wait_seconds"] > 36 * 0.04 * 0.9
    assert cured["wait_seconds"] < first["wait_seconds"] * 0.75
    assert all(0 < one["data_wait_share"] < 1 for one in epochs)
    assert 0 < first["utilisation"] <= 1


def test_a_card_near_its_limit_leads_down_a_rung_and_then_is_left_alone(
    dataset: DatasetOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child asks before memory runs out; where no rung is left the run goes on as it is."""
    script = tmp_path / "card.json"
    script.write_text(json.dumps([{"seconds": 1, "utilisation": 0.9, "used_bytes": 98, "total_bytes": 100}]))
    monkeypatch.setenv(SIMULATED_GPU, str(script))
    job = job_for(dataset, tmp_path / "out", epochs=3, export=False, precision="auto",
                  watch=WatchPolicy(long_seconds=0.02))  # fmt: skip
    events: list[BackendEvent] = []
    run_to_end(job, events.append, ladder=Ladder(MemoryPolicy(most_rungs=1)))
    told = [(one.kind, one.epoch) for one in events if one.kind in {"epoch", "watch", "rung", "finished"}]
    assert told[:3] == [("epoch", 1), ("watch", 1), ("rung", 1)]
    assert told[3:7] == [("epoch", 2), ("watch", 2), ("watch", 2), ("epoch", 3)], "asked, then let alone"
    rung = next(one for one in events if one.kind == "rung")
    assert (rung.data["kind"], rung.data["moment"]) == ("device", "watch")
    assert (rung.data["seen_bytes"], rung.data["limit_bytes"]) == (98, 100)
    changed = rung.data["changed"]
    after = next(one.data["settings"] for one in events if (one.kind, one.epoch) == ("epoch", 2))
    assert changed["batch"] == [4, 2]
    assert all(after[name] == new for name, (_, new) in changed.items() if name in after)


@pytest.mark.soak
def test_two_processes_are_cured_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first process finds, both do: the epoch after it is loaded by processes of their own."""
    data = write_dataset(tmp_path / "data", NAMES, items(40, val=4))
    job = job_for(data, tmp_path / "out", epochs=4, batch=4, devices=2, cache="none", workers=0, export=False,
                  watch=WatchPolicy(long_seconds=0.6, allow_cache=False))  # fmt: skip
    monkeypatch.setenv(SLOW_DISK, "0.08")
    events: list[BackendEvent] = []
    run_child(job, events.append)
    watch = next(one for one in events if one.kind == "watch")
    old, new = watch.data["cure"]["workers"]
    workers = [one.data["settings"]["workers"] for one in events if one.kind == "epoch"]
    assert (workers[0], workers[watch.epoch]) == (old, new)
