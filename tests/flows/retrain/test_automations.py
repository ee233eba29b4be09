"""Run a real Prefect server and worker: events start runs, dead runs are cleared away, finished ones are not touched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.retrain.automations import READY_EVENT, crashed_runs, labels_ready, lost_runs
from flows.retrain.deploying import Wanted, install, load_flow, meaning_of
from flows.trigger import EVENT
from flows.up import processes, services
from flows.up.ports import Ports
from tests.helpers import ROOT, free_port, wait_until

TRIVIAL = "tests.flows.retrain.trivial.trivial"
HEARTBEAT_SECONDS = 30
LOST_SECONDS = 60


@dataclass
class Orchestra:
    """Hold a running server with our deployment and automations, and start workers for it."""

    folder: Path
    ports: Ports
    env: dict[str, str]
    worker: subprocess.Popen[bytes] | None = None

    def call(self, path: str, body: Any) -> Any:
        """Post to the server's API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports.prefect}/api/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def emit(self, task: str) -> None:
        """Send the event that says that a task's labels are ready."""
        self.call(
            "events",
            [
                {
                    "event": READY_EVENT,
                    "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "resource": {"prefect.resource.id": f"whetstone.task.{task}", "whetstone.task": task},
                    "id": os.urandom(16).hex(),
                }
            ],
        )

    def runs(self, task: str) -> list[str]:
        """Return the states of a task's runs, oldest first."""
        found = self.call("flow_runs/filter", {"sort": "START_TIME_ASC"})
        return [run["state"]["name"] for run in found if run["parameters"].get("task") == task]

    def processes_of(self, task: str) -> list[int]:
        """Return the ids of the processes that worked on a task."""
        return [int(path.name.rsplit("-", 1)[1]) for path in self.folder.glob(f"marks/{task}-*")]

    def slots(self) -> int:
        """Return how many slots of the deployment are taken."""
        (deployment,) = self.call("deployments/filter", {})
        return int(deployment["global_concurrency_limit"]["active_slots"])


def start_worker(folder: Path, ports: Ports, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a worker and wait until the server knows it."""
    known = {one.name: one for one in services.embedded_services(folder, ports)}["worker"]
    worker = processes.start_bound(known.command, env=env, log=folder / "worker.log", folder=folder)
    wait_until(known.probe, 60, "the worker to be online")
    return worker


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestra]:
    """Run a server, deploy the trivial flow, and start a worker."""
    folder = tmp_path_factory.mktemp("prefect")
    ports = Ports(*(free_port() for _ in range(4)))
    env = services.child_environment(folder, ports)
    known = {one.name: one for one in services.embedded_services(folder, ports)}
    server = processes.start_bound(
        known["prefect"].command, env=env, log=folder / "server.log", folder=folder
    )
    made: Orchestra | None = None
    try:
        wait_until(known["prefect"].probe, 120, "the Prefect server to answer")
        command = [sys.executable, "-m", "flows.retrain.deploying", "--entrypoint", TRIVIAL]
        subprocess.run(command, env=env, cwd=ROOT, check=True, timeout=120)
        made = Orchestra(folder, ports, env)
        made.worker = start_worker(folder, ports, env)
        yield made
    finally:
        for child in (made.worker if made else None, server):
            if child is not None:
                child.kill()
                child.wait(10)
        if made is not None:
            for path in folder.glob("marks/*"):
                pid = int(path.name.rsplit("-", 1)[1])
                name = processes.name_of(pid)
                if name is not None and b"prefect" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    processes.end(name)


async def install_at(orchestra: Orchestra) -> None:
    """Set up again, from this process."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: orchestra.env["PREFECT_API_URL"]}):
        await install(Wanted(entrypoint=TRIVIAL))


def test_setting_up_twice_is_once(orchestra: Orchestra) -> None:
    """A second set-up finds everything as wanted and leaves the automations, with what they wait for, alone."""
    before = orchestra.call("automations/filter", {})
    asyncio.run(install_at(orchestra))
    after = orchestra.call("automations/filter", {})
    assert after == before
    assert sorted(one["name"] for one in after) == ["whetstone: crashed runs", "whetstone: labels ready", "whetstone: lost runs"]
    (deployment,) = orchestra.call("deployments/filter", {})
    assert deployment["name"] == "retrain"
    assert deployment["work_pool_name"] == "whetstone"


def test_event_becomes_a_running_flow(orchestra: Orchestra) -> None:
    """An event runs the deployment on the worker with the event's task, once, within seconds."""
    began = time.monotonic()
    orchestra.emit("plates")
    wait_until(lambda: bool(orchestra.processes_of("plates")), 30, "the flow to run")
    took = time.monotonic() - began
    wait_until(lambda: orchestra.runs("plates") == ["Completed"], 30, "the run to complete")
    assert len(orchestra.processes_of("plates")) == 1
    assert took < 30


def test_run_killed_under_its_worker_is_started_again(orchestra: Orchestra) -> None:
    """A worker sees its flow die, and the crashed run's task is started again with its parameters."""
    orchestra.emit("sleep-7")
    wait_until(lambda: len(orchestra.processes_of("sleep-7")) == 1, 30, "the flow to run")
    os.kill(orchestra.processes_of("sleep-7")[0], signal.SIGKILL)
    wait_until(lambda: len(orchestra.processes_of("sleep-7")) == 2, 60, "the second attempt")
    # The crash may be told twice; the one slot then cancels the attempt too many before it runs.
    wait_until(
        lambda: sorted(state for state in orchestra.runs("sleep-7") if state != "Cancelled") == ["Completed", "Crashed"],
        60,
        "the second attempt to end",
    )
    assert len(orchestra.processes_of("sleep-7")) == 2


def test_lost_run_is_crashed_frees_its_slot_and_spares_finished_ones(orchestra: Orchestra) -> None:
    """A run that died with its worker is marked Crashed for want of heartbeats; a finished one never is."""
    orchestra.emit("before")
    wait_until(lambda: orchestra.runs("before") == ["Completed"], 40, "a run that finishes")
    orchestra.emit("sleep-900")
    wait_until(lambda: len(orchestra.processes_of("sleep-900")) == 1, 30, "the run to start")
    (pid,) = orchestra.processes_of("sleep-900")
    wait_until(lambda: orchestra.runs("sleep-900") == ["Running"], 30, "the server to know that it runs")
    assert orchestra.slots() == 1
    # The worker first: it must not see the flow die.
    assert orchestra.worker is not None
    orchestra.worker.kill()
    assert orchestra.worker.wait(10) == -signal.SIGKILL
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: orchestra.runs("sleep-900")[0] == "Crashed", 120, "the lost run to be marked Crashed")
    assert time.monotonic() - killed < LOST_SECONDS + HEARTBEAT_SECONDS + 15
    wait_until(lambda: orchestra.slots() == 0, 10, "the slot to be free")
    assert orchestra.runs("before") == ["Completed"]
    assert orchestra.runs("plates") == ["Completed"]


def test_prefect_yaml_says_the_same() -> None:
    """Who deploys by hand gets the deployment that `whetstone up` makes."""
    (told,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    wanted = Wanted()
    assert told["entrypoint"] == wanted.entrypoint
    assert told["name"] == wanted.deployment
    assert told["work_pool"]["name"] == wanted.pool
    assert told["concurrency_limit"] == {"limit": wanted.concurrency, "collision_strategy": "CANCEL_NEW"}
    assert load_flow(wanted.entrypoint).name == "retrain"


def test_event_has_one_name() -> None:
    """Ingest emits what the automation waits for."""
    assert EVENT == READY_EVENT


def test_meaning_ignores_what_the_server_adds() -> None:
    """An automation is updated only when it does something else, since an update forgets its buckets."""
    from uuid import uuid4

    deployment = uuid4()
    assert meaning_of(labels_ready(deployment)) == meaning_of(labels_ready(deployment))
    assert meaning_of(labels_ready(deployment)) != meaning_of(labels_ready(uuid4()))
    assert meaning_of(crashed_runs(deployment)) != meaning_of(labels_ready(deployment))
    assert meaning_of(lost_runs()) == meaning_of(lost_runs())
    assert lost_runs().actions[0].force is False
