"""Mirror runs into real MLflow stores, an embedded file and a server: once, whole, and without a secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from flows.tracking.errors import TrackingAway
from flows.tracking.mlflow_store import MlflowTracker
from flows.tracking.picturing import picture_of, picture_of_event
from tests.flows.tracking.seeded import BEGAN, GIB, NEW, epoch_events, record, story
from tests.flows.tracking.servers import mlflow_server
from tests.helpers import free_port
from trainer.tracking.mlflow_run import open_client, run_named

NOW = BEGAN + timedelta(hours=1)
EXPERIMENT = "whetstone/plates"


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, MlflowTracker]]:
    """Run a server, and return with its URL a tracker that found the port closed before."""
    port = free_port()
    tracker = MlflowTracker(f"http://127.0.0.1:{port}", EXPERIMENT)
    with pytest.raises(TrackingAway):
        tracker.write(picture_of(story(), NOW))
    with mlflow_server(tmp_path_factory.mktemp("server"), port) as url:
        yield url, tracker


@pytest.fixture(scope="module", params=["file", "server"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of an empty store: a file of its own, or MLflow's own server."""
    if request.param == "file":
        return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'tracking' / 'mlflow.db'}"
    return str(request.getfixturevalue("patient")[0])


def all_of(uri: str, run_id: str = NEW) -> dict[str, object]:
    """Return everything a store has of a run, in an order that can be compared."""
    client = open_client(uri)
    name = run_named(client, uri=uri, experiment=EXPERIMENT, run_id=run_id)
    run = client.get_run(name)
    points = {
        key: [(one.step, one.value, one.timestamp) for one in client.get_metric_history(name, key)]
        for key in run.data.metrics
    }
    files = sorted(one.path for one in client.list_artifacts(name, "whetstone"))
    return {
        "name": name, "params": run.data.params, "tags": run.data.tags, "points": points, "files": files,
        "status": run.info.status, "end": run.info.end_time,
    }  # fmt: skip


def test_twice_is_once(uri: str) -> None:
    """Before, during and after, by several processes, and after again: one run, each point once."""
    early, tracker = MlflowTracker(uri, EXPERIMENT), MlflowTracker(uri, EXPERIMENT)
    early.write(picture_of(story(record=None, gate=None), NOW))
    for event in epoch_events(record()):
        picture = picture_of_event(event)
        assert picture is not None
        tracker.write(picture)
    assert all_of(uri)["status"] == "RUNNING"
    early.write(picture_of(story(), NOW))
    first = all_of(uri)
    tracker.write(picture_of(story(), NOW))
    MlflowTracker(uri, EXPERIMENT).write(picture_of(story(), NOW + timedelta(minutes=5)))
    assert all_of(uri) == first
    points = first["points"]
    assert isinstance(points, dict)
    assert [(step, value) for step, value, _ in points["whetstone/train/box_loss"]] == [
        (number, 2.0 / number) for number in range(1, 7)
    ]


def test_what_a_person_looks_for_is_there(uri: str) -> None:
    """Money, memory predicted and seen, data wait, rungs, verdict, snapshot, plan: by name, with their words."""
    MlflowTracker(uri, EXPERIMENT).write(picture_of(story(), NOW))
    found = all_of(uri)
    params, tags, points = found["params"], found["tags"], found["points"]
    assert isinstance(params, dict)
    assert isinstance(tags, dict)
    assert isinstance(points, dict)
    last = {key: values[-1][1] for key, values in points.items()}
    assert last["whetstone/cost_dollars"] == pytest.approx(0.25)
    assert last["whetstone/vram_predicted_mib"] == 5 * GIB / 2**20
    assert last["whetstone/vram_peak_mib"] == 4 * GIB / 2**20
    assert last["whetstone/data_wait"] == pytest.approx(0.1)
    assert (last["whetstone/rungs_taken"], last["whetstone/resumes"]) == (1.0, 1.0)
    assert (last["whetstone/gate/promoted"], last["whetstone/gate/candidate.val_map50"]) == (1.0, 0.75)
    assert "not confirmed" in tags["whetstone.vram_predicted"]
    assert tags["whetstone.gate"] == "promoted, release 2"
    assert "batch 16 to 8" in tags["whetstone.rungs"]
    assert params["plan.snapshot"] == "5" * 64
    assert found["files"] == [
        f"whetstone/{name}" for name in ("gate.json", "gate.md", "plan.json", "run.json")
    ]
    assert found["status"] == "FINISHED"
    assert found["end"] == int((BEGAN + timedelta(minutes=40)).timestamp() * 1000)


class SeesNothingOnce:
    """Be a client whose first search comes before the other side's run is there, as in a race."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.blind = 1
        self.deleted: list[str] = []

    def search_runs(self, *asked: Any, **options: Any) -> list[Any]:
        self.blind -= 1
        time.sleep(0.005)  # the run that is made now starts later than the one there is
        return [] if self.blind >= 0 else list(self._client.search_runs(*asked, **options))

    def delete_run(self, name: str) -> None:
        self.deleted.append(name)
        self._client.delete_run(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_trainer_and_cloud_write_into_one_run(uri: str) -> None:
    """A second run of the name, made in a race, is deleted by whoever made it: the oldest counts."""
    client = open_client(uri)
    name = run_named(client, uri=uri, experiment=EXPERIMENT, run_id="run-raced")
    late = SeesNothingOnce(client)
    assert run_named(late, uri=uri, experiment=EXPERIMENT, run_id="run-raced") == name
    assert len(late.deleted) == 1
    assert name not in late.deleted
    assert run_named(client, uri=uri, experiment=EXPERIMENT, run_id="run-raced") == name


def test_a_dead_server_is_told_within_seconds() -> None:
    """Nobody waits minutes for a port that is closed, and the error says where and what to do."""
    began = time.monotonic()
    with pytest.raises(TrackingAway, match="MlflowException") as told:
        MlflowTracker(f"http://127.0.0.1:{free_port()}", EXPERIMENT).write(picture_of(story(), NOW))
    assert time.monotonic() - began < 20.0
    assert "whetstone runs track" in told.value.diagnostics()


def test_a_server_that_comes_back_is_written_to(patient: tuple[str, MlflowTracker]) -> None:
    """The same tracker that failed writes everything once the server answers."""
    url, tracker = patient
    tracker.write(replace(picture_of(story(), NOW), run_id="run-later"))
    assert all_of(url, "run-later")["status"] == "FINISHED"
