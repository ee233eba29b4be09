"""Train by recipe and read back what was really in force; go back from losses that are no numbers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import ROOT
from tests.trainer import poisoned
from tests.trainer.conftest import job_for
from trainer.backend import run_child
from trainer.backend_job import (
    CHECKPOINT_FILE,
    EVENTS_FILE,
    FAILURE_FILE,
    LOG_FILE,
    PREVIOUS_FILE,
    BackendEvent,
    BackendFailure,
    BackendJob,
)
from trainer.dataset import DatasetOnDisk
from trainer.errors import BackendFailed
from trainer.ultralytics_backend.settings import clipped_to, fingerprint_of, overrides_of

Run = tuple[list[BackendEvent], dict[str, torch.Tensor], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def recipe_run(dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return events of a run with much switched on, and its weights after an early and the last epoch."""
    out = tmp_path_factory.mktemp("recipe")
    events: list[BackendEvent] = []

    def listen(event: BackendEvent) -> None:
        events.append(event)
        if event.kind == "epoch" and event.epoch == 1:
            shutil.copyfile(out / CHECKPOINT_FILE, out / "early.pt")

    job = job_for(
        dataset, out, epochs=5, export=False, batch=32, freeze_layers=2, augmentation="heavy", validate_every=2,
        precision="bf16", deterministic=True, workers=2,
    )  # fmt: skip
    run_child(job, listen)
    assert not (out / PREVIOUS_FILE).exists(), "a finished run needs no second checkpoint"
    early, late = (
        torch.load(out / name, weights_only=True)["model"] for name in ("early.pt", CHECKPOINT_FILE)
    )
    return events, early, late


def _epochs(run: Run) -> list[BackendEvent]:
    return [event for event in run[0] if event.kind == "epoch"]


def test_frozen_layers_keep_weights_and_statistics(recipe_run: Run) -> None:
    """Of frozen layers not even the running means move; the others learn."""
    _, early, late = recipe_run
    frozen = [name for name in early if name.startswith(("model.0.", "model.1."))]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(early[name], late[name]) for name in frozen)
    assert not torch.equal(early["model.2.conv.weight"], late["model.2.conv.weight"])
    assert not torch.equal(early["model.2.bn.running_mean"], late["model.2.bn.running_mean"])


def test_every_epoch_tells_the_settings_in_force(recipe_run: Run) -> None:
    """What trainer, loader and images really use is in each epoch's event, and mixing ends before the run."""
    first, *_, last = (event.data["settings"] for event in _epochs(recipe_run))
    expected = {"precision": "bf16", "amp": True, "freeze": 2, "image_size": 64, "cache": "ram", "devices": 1,
                "deterministic": True, "rate_scale": 1.0, "mosaic": 1.0, "mixup": 0.15, "cutmix": 0.15,
                "compile": False, "workers": 0}  # fmt: skip
    assert {name: first[name] for name in expected} == expected
    assert (last["mosaic"], last["mixup"], last["cutmix"], last["copy_paste"]) == (0.0, 0.0, 0.0, 0.0)


def test_a_batch_larger_than_the_data_is_clipped_and_told(recipe_run: Run) -> None:
    """Twelve images make a batch of twelve, one event says so, and no worker waits for a second batch."""
    told = [event.data["why"] for event in recipe_run[0] if event.kind == "watch"]
    assert len(told) == 1
    assert "12 training images are fewer" in told[0]
    settings = _epochs(recipe_run)[0].data["settings"]
    assert (settings["batch"], settings["accumulate"], settings["nbs"]) == (12, 1, 12)


def test_the_validation_loss_is_measured_when_asked(recipe_run: Run) -> None:
    """Every second epoch and the last one tell the loss on the validation images; others tell none."""
    rows = {event.epoch: event.data["val"] for event in _epochs(recipe_run)}
    assert [epoch for epoch, row in rows.items() if row] == [2, 4, 5]
    assert set(rows[2]) == {"box_loss", "cls_loss", "dfl_loss"}
    assert all(value > 0 for value in rows[5].values())


@pytest.mark.parametrize(
    ("batch", "accumulation", "images", "devices", "expected"),
    [(4, 4, 100, 1, (4, 4)), (16, 2, 12, 1, (12, 1)), (4, 8, 12, 1, (4, 3)), (5, 2, 100, 2, (4, 2)),
     (16, 1, 3, 2, (2, 2)), (1, 1, 1, 2, (2, 1))],
)  # fmt: skip
def test_a_step_stays_as_large_as_the_data_allow(
    dataset: DatasetOnDisk, tmp_path: Path, batch: int, accumulation: int, images: int, devices: int,
    expected: tuple[int, int],
) -> None:  # fmt: skip
    """The batch divides by the devices and is filled; accumulation keeps the step within an epoch."""
    job = clipped_to(job_for(dataset, tmp_path, batch=batch, accumulation=accumulation), images, devices)
    assert (job.batch, job.accumulation) == expected


def test_what_a_rung_changes_does_not_rename_a_job(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """After a rung the job goes on from its checkpoint; another recipe or class list is another job."""
    job = job_for(dataset, tmp_path)
    rungs: dict[str, Any] = {"batch": 2, "accumulation": 2, "precision": "bf16", "cache": "none", "workers": 1,
                             "augmentation_values": {"mosaic": 0.0}, "image_size": 32, "memory_share": 0.5,
                             "expandable_segments": False, "devices": 2}  # fmt: skip
    assert fingerprint_of(job.model_copy(update=rungs)) == fingerprint_of(job)
    for change in ({"epochs": 9}, {"optimizer": "SGD"}, {"class_names": ("a", "b")}, {"freeze_layers": 1}):
        assert fingerprint_of(job.model_copy(update=change)) != fingerprint_of(job)


def test_mixing_ends_early_whatever_mixes(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """MixUp without Mosaic is closed for the last quarter too; compiling is for CUDA alone."""
    mixed = job_for(dataset, tmp_path, epochs=8, augmentation_values={"mixup": 0.5}, compile=True)
    assert overrides_of(mixed, masked=False, device="cpu")["close_mosaic"] == 2
    assert overrides_of(mixed, masked=False, device="cpu")["compile"] is False
    assert overrides_of(mixed, masked=False, device="0")["compile"] is True
    assert overrides_of(mixed, masked=True, device="cpu")["close_mosaic"] == 0


def test_a_dataset_of_another_class_list_is_refused(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """Images labelled for another list are named with both lists, and no restart is worth it."""
    with pytest.raises(
        BackendFailed, match=r"(?s)classes \['square', 'hole'\].*\['square', 'bar'\]"
    ) as caught:
        run_child(job_for(dataset, tmp_path, class_names=("square", "hole")))
    assert not caught.value.resumable


def test_our_loop_computes_what_ultralytics_does(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """The same job through ultralytics' own loop ends with the same live and averaged weights, bit for bit."""
    job = job_for(dataset, tmp_path, epochs=4, export=False, augmentation="full", optimizer="SGD")
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainer.loops", str(path)], cwd=ROOT, capture_output=True, text=True,
        check=True, timeout=200,
    )  # fmt: skip
    hashes = json.loads(done.stdout.splitlines()[-1])
    assert hashes["ours"] == hashes["theirs"]
    assert hashes["ours averaged"] == hashes["theirs averaged"]
    assert hashes["ours"] != hashes["ours averaged"]
    without, with_pasted = hashes["boxes"]
    assert without < with_pasted, (
        "copy-paste pastes boxes, which ultralytics' own labels of boxes would not allow"
    )


def _poison(job: BackendJob, *, epoch: int, times: int) -> tuple[int, list[BackendEvent]]:
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / "job.json"
    path.write_text(job.model_dump_json())
    with (job.out / LOG_FILE).open("w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "tests.trainer.poisoned", str(path), str(os.getpid()), str(epoch), str(times)],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=200, check=False,
        ).returncode  # fmt: skip
    fired = (job.out / LOG_FILE).read_text().count(poisoned.FIRED)
    assert fired == min(times, 4), (job.out / LOG_FILE).read_text()[-2000:]
    lines = (job.out / EVENTS_FILE).read_text().splitlines()
    return code, [BackendEvent.from_line(line) for line in lines]


def test_a_loss_that_is_no_number_costs_a_rollback_and_half_the_rate(
    dataset: DatasetOnDisk, tmp_path: Path
) -> None:
    """The run goes back to its last checkpoint, goes on at half the rate, and no NaN is ever kept."""
    code, events = _poison(job_for(dataset, tmp_path, epochs=3, export=False), epoch=2, times=1)
    assert code == 0
    assert [event.kind for event in events] == ["started", "epoch", "rollback", "epoch", "epoch", "finished"]
    back = events[2]
    assert (back.epoch, back.data["rate_scale"], back.data["rollback"]) == (1, 0.5, 1)
    assert "epoch 2, step 1" in back.data["why"]
    assert "scene-" in back.data["why"], "the images of the step are named"
    rates = [event.data["learning_rate"] for event in events if event.kind == "epoch"]
    assert rates[1] == pytest.approx(1e-3 * (1 - 1 / 3 * 0.95) / 2)
    kept = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)
    assert kept["rate_scale"] == 0.5
    assert all(torch.isfinite(one).all() for one in kept["model"].values())


def test_a_loss_that_never_becomes_a_number_is_given_up(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """From the very first step, without any checkpoint: three rollbacks, then the reason, and no restart."""
    code, events = _poison(job_for(dataset, tmp_path, epochs=3, export=False), epoch=1, times=99)
    assert code == 1
    assert [event.kind for event in events] == ["started", "rollback", "rollback", "rollback"]
    assert [event.data["rate_scale"] for event in events[1:]] == [0.5, 0.25, 0.125]
    failure = BackendFailure.model_validate_json((tmp_path / FAILURE_FILE).read_bytes())
    assert failure.error == "LossNotFinite"
    assert not failure.resumable
    assert "after 3 rollbacks" in failure.message
    assert not (tmp_path / CHECKPOINT_FILE).exists()
