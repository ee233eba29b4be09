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
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer
from flows.database import Database
from flows.database.schema import RunRow
from flows.gpus import lenders
from flows.gpus.base import Machine
from flows.gpus.errors import TokenRefused
from flows.gpus.flow import OutOfReach
from flows.gpus.flow import reap as reap_flow
from flows.gpus.leases import LeaseBook, Terms, give_back, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.prefect_api import PrefectApi
from flows.gpus.reaper import reap
from flows.retrain import billing
from flows.retrain.automations import READY_EVENT, crashed_runs, labels_ready, lost_runs
from flows.retrain.cancelled import At, close_cancelled
from flows.retrain.deploying import REAP_EVERY, Wanted, deployments_of, install, load_flow, meaning_of
from flows.retrain.tiers import event_of, pool_of
from flows.settings import PrefectSettings, Settings, write_settings
from flows.store import MemoryStore
from flows.trigger import EVENT
from flows.up import processes, services
from flows.up.ports import Ports
from tests.flows.kit import TASK, make_installation
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

    def emit(self, task: str, event: str = READY_EVENT) -> None:
        """Send the event that says that a task's labels are ready."""
        self.call(
            "events",
            [
                {
                    "event": event,
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

    def deployment(self, name: str) -> Any:
        """Return a deployment, of which there is one."""
        (found,) = (one for one in self.call("deployments/filter", {}) if one["name"] == name)
        return found

    def slots(self) -> int:
        """Return how many slots of the deployment are taken."""
        deployment = self.deployment("retrain")
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
    tiers = ("", " (fine-tune)", " (full)", " (smoke)")
    assert sorted(one["name"] for one in after) == [
        *(f"whetstone: crashed runs{tier}" for tier in tiers),
        *(f"whetstone: labels ready{tier}" for tier in tiers),
        "whetstone: lost runs",
    ]
    made = orchestra.call("deployments/filter", {})
    assert {one["name"]: one["work_pool_name"] for one in made} == {
        "retrain": "whetstone",
        "retrain-smoke": "whetstone-smoke",
        "retrain-fine-tune": "whetstone-fine-tune",
        "retrain-full": "whetstone-full",
        "reap": "whetstone",
    }
    assert len(made) == 5
    (schedule,) = orchestra.deployment("reap")["schedules"]
    assert schedule["schedule"]["cron"] == REAP_EVERY


def test_event_becomes_a_running_flow(orchestra: Orchestra) -> None:
    """An event runs the deployment on the worker with the event's task, once, within seconds."""
    began = time.monotonic()
    orchestra.emit("plates")
    wait_until(lambda: bool(orchestra.processes_of("plates")), 30, "the flow to run")
    took = time.monotonic() - began
    wait_until(lambda: orchestra.runs("plates") == ["Completed"], 30, "the run to complete")
    assert len(orchestra.processes_of("plates")) == 1
    assert took < 30


def test_event_of_a_tier_runs_in_its_pool(orchestra: Orchestra) -> None:
    """A tier's event becomes a flow of that tier's deployment, in its own pool, by the one worker there is."""
    tiers = ("smoke", "full")
    for tier in tiers:
        orchestra.emit(f"of-{tier}", event_of(READY_EVENT, tier))
    wait_until(
        lambda: all(orchestra.runs(f"of-{tier}") == ["Completed"] for tier in tiers), 60, "the tiers' runs to complete"
    )
    found = orchestra.call("flow_runs/filter", {})
    pools = {one["parameters"].get("task"): one["work_pool_name"] for one in found}
    assert {f"of-{tier}": pools[f"of-{tier}"] for tier in tiers} == {f"of-{tier}": pool_of(tier) for tier in tiers}


def _run_row(run_id: str, flow_run: str) -> RunRow:
    return RunRow(
        run_id=run_id, task_id="plates", snapshot_id="s", start_kind="origin", start_sha256="0" * 64, recipe={},
        state="active", attempts=1, flow_run=flow_run, reason="", started_at=utc_now(), touched_at=utc_now(),
        ended_at=None,
    )  # fmt: skip


def _id_of(orchestra: Orchestra, task: str) -> str:
    (found,) = (
        one["id"] for one in orchestra.call("flow_runs/filter", {}) if one["parameters"].get("task") == task
    )
    return str(found)


def test_cancel_in_the_ui_ends_the_machine(orchestra: Orchestra, tmp_path: Path) -> None:
    """Run and lease end by the reaper alone, as the UI's own call asks for it; other runs are left as they are."""
    orchestra.emit("sleep-901")
    wait_until(lambda: len(orchestra.processes_of("sleep-901")) == 1, 60, "the flow to run")
    wait_until(lambda: orchestra.runs("sleep-901") == ["Running"], 30, "the server to know that it runs")
    flow_run, done = _id_of(orchestra, "sleep-901"), _id_of(orchestra, "plates")
    api = PrefectApi(orchestra.env["PREFECT_API_URL"])
    database, provider = Database.open(f"sqlite:///{tmp_path / 'test.db'}"), MemoryProvider()
    book, store = LeaseBook(database), MemoryStore()
    names = {"cancelled": flow_run, "completed": done, "unknown": str(uuid.uuid4()), "by hand": "test"}
    leases = {}
    for number, (what, name) in enumerate(names.items()):
        run_id = f"run-{number:016d}"
        offer = GpuOffer(provider="memory", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=utc_now())
        terms = Terms("plates", run_id, offer, 0.0, utc_now() + timedelta(hours=1), price=1.0)
        leases[what] = rent(book, provider, terms, Path("ticket.json"))
        with database.session() as session:
            session.add(_run_row(run_id, name))
    try:
        assert close_cancelled(At(database, store), api) == ()
        # What the button in Prefect's UI sends.
        orchestra.call(f"flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        assert close_cancelled(At(database, store), api) == (leases["cancelled"].run_id,)
        assert [one.lease_id for one in reap(book, [provider])] == [leases["cancelled"].lease_id]
        assert {one.lease_id for one in provider.list_ours()} == {
            lease.lease_id for what, lease in leases.items() if what != "cancelled"
        }
        ended = book.find(leases["cancelled"].lease_id)
        assert ended is not None
        assert ended.end_reason == "its run is closed"
        assert book.why_closed(ended.run_id).startswith("cancelled: a person cancelled it in Prefect")
        (kept,) = store.list("tasks/plates/journal/runs/")
        assert json.loads(store.get(kept.key))["state"] == "cancelled"
        # The worker ends the process as well, in its own time.
        wait_until(lambda: orchestra.runs("sleep-901") == ["Cancelled"], 90, "the flow run to be cancelled")
        assert close_cancelled(At(database, store), api) == ()
    finally:
        database.close()


def test_the_bill_is_shown_and_kept_up_to_date(
    orchestra: Orchestra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person sees a run's leases, what they cost so far, and in the end the bill."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(billing, "EVERY_SECONDS", 0.2)
    ctx = make_installation(tmp_path / "installation")
    run_id, provider, book = "run-00000000000000aa", MemoryProvider(), LeaseBook(ctx.database)
    offer = GpuOffer(provider="memory", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=1, priced_at=utc_now())

    def shown() -> dict[str, Any]:
        (found,) = orchestra.call("artifacts/filter", {"artifacts": {"key": {"any_": [f"{run_id}-bill"]}}})
        return dict(found)

    def training() -> None:
        with billing.billed(ctx, TASK, run_id):
            assert shown()["data"] == "[]"
            terms = Terms(TASK, run_id, offer, 0.0, utc_now() + timedelta(hours=1), price=3600.0)
            lease = rent(book, provider, terms, Path("ticket.json"))
            wait_until(lambda: "launched" in shown()["data"], 60, "the lease to be shown")
            assert "so far, at most $" in shown()["description"]
            give_back(book, provider, lease, "the run delivered its result")

    with temporary_settings({PREFECT_API_URL: orchestra.env["PREFECT_API_URL"]}):
        training()
    (row,) = json.loads(shown()["data"])
    assert row["state"] == "the run delivered its result"
    (lease,) = book.of_run(run_id)
    assert row["$"] == f"{lease.cost:.4f}"
    assert shown()["description"].endswith("in the end")
    ctx.database.close()


def test_the_reapers_flow_tells_what_it_ended(
    orchestra: Orchestra, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends a stray, shows it, and fails aloud where a token is refused."""
    from prefect.logging import disable_run_logger
    from prefect.settings import PREFECT_API_URL, temporary_settings

    folder = tmp_path / "installation"
    folder.mkdir()
    api = PrefectSettings(api_url=orchestra.env["PREFECT_API_URL"])
    write_settings(folder, Settings(installation="plant7", prefect=api))
    cloud = MemoryProvider(name="cloud")
    cloud.machines["stray"] = Machine("stray", "lease-unknown")
    monkeypatch.setattr(lenders, "each_apart", lambda folder, settings: ({"cloud": cloud}, {}))
    # The flow's body alone: as a flow in this process it would leave threads behind that know no server.
    with temporary_settings({PREFECT_API_URL: api.api_url}), disable_run_logger():
        assert reap_flow.fn(str(folder)) == {"ended": 1, "providers": 1}
        (page,) = orchestra.call("artifacts/filter", {"artifacts": {"key": {"any_": ["reaped"]}}})
        assert "cloud: answered; ended stray (no live lease owns it)" in page["data"]

        def refused() -> tuple[Machine, ...]:
            raise TokenRefused(expected="a token that is good", got="401", where="file:token")

        monkeypatch.setattr(cloud, "list_ours", refused)
        with pytest.raises(OutOfReach, match="file:token"):
            reap_flow.fn(str(folder))
    wanted = {"event": {"name": ["whetstone.gpus.reaped", "whetstone.gpus.unwatched"]}}
    wait_until(lambda: len(orchestra.call("events/filter", {"filter": wanted})["events"]) == 2, 30, "both events")


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
    told = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    wanted = deployments_of(Wanted())
    assert len(told) == len(wanted)
    for one, other in zip(told, wanted, strict=True):
        assert one["entrypoint"] == other.entrypoint
        assert one["name"] == other.name
        assert one["description"] == other.description
        assert one["work_pool"]["name"] == other.pool
        assert one["concurrency_limit"] == {"limit": other.concurrency, "collision_strategy": "CANCEL_NEW"}
        assert [schedule["cron"] for schedule in one.get("schedules", ())] == [other.cron] * bool(other.cron)
        assert load_flow(other.entrypoint).name == other.name.split("-")[0]
    assert (wanted[0].name, wanted[0].pool) == ("retrain", "whetstone")


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


def test_token_in_a_block_is_read_anew(orchestra: Orchestra) -> None:
    """A seller's token kept as a Secret block is found, taken renewed, and named where there is none."""
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.gpus.tokens import KeptToken

    token = KeptToken("block:seller")
    with temporary_settings({PREFECT_API_URL: orchestra.env["PREFECT_API_URL"]}):
        with pytest.raises(TokenRefused, match="block:seller"):
            token()
        for content in ("the first", "renewed"):
            Secret(value=content).save("seller", overwrite=True)
            assert token() == content
