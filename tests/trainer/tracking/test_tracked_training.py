"""Train real children that are tracked: by ultralytics' callback into MLflow, by W&B, and into a dead port."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts.training import Tracking
from tests.helpers import free_port
from tests.trainer.conftest import job_for
from trainer.backend import run_child
from trainer.backend_job import BackendEvent
from trainer.dataset import DatasetOnDisk
from trainer.tracking.mlflow_run import open_client, run_named

SECRET = "correct-horse-battery"
STAND_INS = Path(__file__).parent / "stand_ins"


@dataclass
class Tracked:
    """Hold what two stages of one run left in the stores."""

    client: Any
    run: str
    events: list[list[BackendEvent]]
    notes: list[dict[str, Any]]
    folder: Path

    def history(self, metric: str) -> list[tuple[int, float]]:
        return [(one.step, one.value) for one in self.client.get_metric_history(self.run, metric)]


@pytest.fixture(scope="module")
def tracked(dataset: DatasetOnDisk, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Train two stages of different image sizes into one run, with secrets in the environment."""
    folder = tmp_path_factory.mktemp("tracked")
    where = Tracking(mlflow_uri=f"sqlite:///{folder / 'tracking' / 'mlflow.db'}", mlflow_experiment="whetstone/t",
                     wandb_project="plates", wandb_mode="offline", run_id="run-1")  # fmt: skip
    # The cloud side makes the run before any trainer looks for it.
    client = open_client(where.mlflow_uri)
    run = run_named(client, uri=where.mlflow_uri, experiment=where.mlflow_experiment, run_id="run-1")
    events: list[list[BackendEvent]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.setenv("WANDB_STAND_IN_NOTES", str(folder / "notes.jsonl"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")]))
        for stage, size in enumerate((64, 96)):
            place = where.model_copy(update={"first_epoch": 2 * stage})
            job = job_for(
                dataset, folder / f"stage-{stage}", epochs=2, image_size=size, export=False, tracking=place
            )
            events.append([])
            run_child(job, events[-1].append)
    notes = [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]
    return Tracked(client, run, events, notes, folder)


def test_both_stages_are_one_run(tracked: Tracked) -> None:
    """Epochs of the second stage follow those of the first, in the run that was there; nothing went wrong."""
    told = [event for events in tracked.events for event in events]
    assert [event.data for event in told if event.kind == "watch" and event.data["kind"] == "tracking"] == []
    epochs = [event for event in told if event.kind == "epoch"]
    loss = [(number, event.data["losses"]["box_loss"]) for number, event in enumerate(epochs, start=1)]
    assert tracked.history("train/box_loss") == loss
    assert [step for step, _ in tracked.history("lr/pg0")] == [1, 2, 3, 4]
    experiment = tracked.client.get_experiment_by_name("whetstone/t")
    assert len(tracked.client.search_runs([experiment.experiment_id])) == 1


def test_settings_are_parameters_of_the_first_stage(tracked: Tracked) -> None:
    """The callback's parameters are there though the second stage has others, which MLflow would refuse."""
    run = tracked.client.get_run(tracked.run)
    assert run.data.params["imgsz"] == "64"
    assert run.data.params["optimizer"] == "AdamW"
    assert run.info.status == "RUNNING"
    files = [one.path for one in tracked.client.list_artifacts(tracked.run, "settings")]
    assert files == ["settings/args.yaml"], "and no weights"


def test_wandb_is_asked_for_as_it_should(tracked: Tracked) -> None:
    """Each stage goes on in the run of our name, offline as set, counts epochs on, and ends its part."""
    begun = [note for note in tracked.notes if note["call"] == "init"]
    assert [(one["project"], one["id"], one["resume"], one["mode"]) for one in begun] == [
        ("plates", "run-1", "allow", "offline")
    ] * 2
    assert "imgsz" in begun[0]["config"]
    written = [note["data"] for note in tracked.notes if note["call"] == "log" and note["commit"]]
    assert [data["epoch"] for data in written] == [1, 2, 3, 4]
    assert all(data["whetstone/images_per_second"] > 0 for data in written)
    losses = [note["data"] for note in tracked.notes if "train/box_loss" in note.get("data", {})]
    assert [data["epoch"] for data in losses] == [1, 2, 3, 4]
    assert [note["call"] for note in tracked.notes].count("finish") == 2


def test_no_secret_reaches_a_store(tracked: Tracked) -> None:
    """What the environment knows to log in with is in no file, table, parameter or artifact."""
    files = [path for path in tracked.folder.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_dead_server_and_a_missing_package_fail_nothing(dataset: DatasetOnDisk, tmp_path: Path) -> None:
    """Training ends as ever, and two warnings say what was asked for in vain."""
    where = Tracking(mlflow_uri=f"http://127.0.0.1:{free_port()}", mlflow_experiment="t", wandb_project="plates",
                     run_id="run-2")  # fmt: skip
    events: list[BackendEvent] = []
    result = run_child(job_for(dataset, tmp_path, epochs=2, export=False, tracking=where), events.append)
    assert result.epochs == 2
    assert [event.epoch for event in events if event.kind == "epoch"] == [1, 2]
    told = [
        str(event.data["why"])
        for event in events
        if event.kind == "watch" and event.data["kind"] == "tracking"
    ]
    assert [why for why in told if why.startswith("W&B")] == [
        "W&B: the package is not installed on this machine"
    ]
    assert len([why for why in told if "Connection refused" in why or "failed with exception" in why]) == 1
    assert told[-1] == "MLflow: 2 entries were not written before the end"
