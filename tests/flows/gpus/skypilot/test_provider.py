"""Try what SkyPilot alone does: launches that take long, are queued, break off, or leave half a machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.gpus.base import MachineStatus
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import SkypilotSection
from flows.gpus.skypilot import simulator as simulated
from flows.gpus.skypilot.client import Pace
from flows.gpus.skypilot.provider import SkypilotProvider
from flows.gpus.skypilot.simulated_clusters import Failed, SimulatedCluster
from flows.gpus.skypilot.simulator import Simulator
from flows.gpus.skypilot.tasks import script
from flows.gpus.starting import UNTIL
from tests.flows.gpus.contract import INSTALLATION, write_ticket
from tests.flows.gpus.skypilot.leases import NAME, lease_for
from tests.helpers import wait_until


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with simulated.running() as made:
        yield made


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    return write_ticket(tmp_path / "ticket.json")


def provider_at(
    simulator: Simulator, folder: Path, quick: float = 30.0, **changes: object
) -> SkypilotProvider:
    section = {"kind": "skypilot", "url": simulator.url, "account_on_machines": True, **changes}
    pace = Pace(quick=quick, asking=30.0, ending=30.0)
    return SkypilotProvider("sky", SkypilotSection.model_validate(section), INSTALLATION, folder, pace)


def refuse(name: str) -> None:
    """Be a cloud that does not take the order to end a cluster."""
    raise Failed("RuntimeError", f"Failed to terminate {name}")


def test_launch_that_takes_long_returns_soon(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """A launch of half an hour is a running machine at once, is listed, and is one cluster when asked again."""
    simulator.machines.boot_seconds = 1800.0
    provider = provider_at(simulator, tmp_path, quick=0.2)
    assert provider.launch(lease_for(), ticket) == NAME
    status = provider.status(NAME)
    assert (status.state, status.detail) == ("running", "it is being launched")
    assert [one.machine for one in provider.list_ours()] == [NAME]
    assert provider.launch(lease_for(), ticket) == NAME
    assert len([one for one in simulator.seen if one.startswith("POST /launch")]) == 1


def test_launch_is_called_off_before_the_cluster_is_ended(
    simulator: Simulator, tmp_path: Path, ticket: Path
) -> None:
    """Ending a machine that is being launched cancels the launch first: in the queue it would come later."""
    simulator.machines.boot_seconds = 1800.0
    provider = provider_at(simulator, tmp_path, quick=0.2)
    provider.launch(lease_for(), ticket)
    with simulator.lock:
        del simulator.machines.clusters[NAME]  # still in the queue: there is no cluster yet
    assert [one.machine for one in provider.list_ours()] == [NAME]
    provider.terminate(NAME)
    assert [one.status for one in simulator.machines.requests if one.name == "sky.launch"] == ["CANCELLED"]
    assert provider.list_ours() == ()
    assert provider.status(NAME).state == "ended"


def test_launch_that_fails_later_is_told_with_its_reason(
    simulator: Simulator, tmp_path: Path, ticket: Path
) -> None:
    """No capacity after the call returned: the machine has ended, and its status says why."""
    simulator.machines.boot_seconds = 1800.0
    simulator.machines.has_capacity = False
    provider = provider_at(simulator, tmp_path, quick=0.2)
    provider.launch(lease_for(), ticket)
    for request in simulator.machines.requests:
        request.seconds = 0.0
    wait_until(lambda: provider.status(NAME).state == "ended", 10.0, "the launch to fail")
    assert simulator.machines.refused == 1
    assert "Failed to acquire resources in us-east-1" in provider.status(NAME).detail
    assert provider.list_ours() == ()


def test_half_a_machine_is_ended_before_the_refusal(
    simulator: Simulator, tmp_path: Path, ticket: Path
) -> None:
    """A launch that fails may leave a cluster behind; the refusal comes when that is gone."""
    simulator.machines.has_capacity, simulator.machines.leaves_half = False, True
    with pytest.raises(LaunchRefused, match="Failed to acquire"):
        provider_at(simulator, tmp_path).launch(lease_for(), ticket)
    assert simulator.machines.refused == 1
    assert any(one.startswith("POST /down") and NAME in one for one in simulator.seen)
    assert simulator.machines.clusters == {}


def test_half_a_machine_that_cannot_be_ended_keeps_its_lease(
    simulator: Simulator, tmp_path: Path, ticket: Path
) -> None:
    """Where that cluster cannot be ended, the launch is not called refused: its lease has to live on."""
    simulator.machines.has_capacity, simulator.machines.leaves_half = False, True
    simulator.machines.down = refuse  # type: ignore[method-assign]
    provider = provider_at(simulator, tmp_path)
    with pytest.raises(ProviderAway, match="Failed to terminate"):
        provider.launch(lease_for(), ticket)
    assert [one.machine for one in provider.list_ours()] == [NAME]
    assert provider.status(NAME).state == "ended"


@pytest.mark.parametrize(
    ("status", "was_up", "job", "state"),
    [
        ("INIT", False, "", "ended"),
        ("INIT", True, "RUNNING", "running"),
        ("UP", True, "RUNNING", "running"),
        ("UP", True, "FAILED", "ended"),
        ("UP", True, "", "ended"),
        ("STOPPED", True, "SUCCEEDED", "ended"),
        ("AUTOSTOPPING", True, "SUCCEEDED", "ended"),
    ],
)
def test_clusters_the_server_knows_from_before(
    simulator: Simulator, tmp_path: Path, status: str, was_up: bool, job: str, state: str
) -> None:
    """After a restart of the server its requests are gone; clusters are judged by themselves, and all listed."""
    simulator.machines.clusters[NAME] = SimulatedCluster(NAME, {}, status, was_up, job, int(bool(job)))
    provider = provider_at(simulator, tmp_path)
    assert provider.status(NAME).state == state
    assert [one.machine for one in provider.list_ours()] == [NAME]


def test_nothing_is_launched_without_consent(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """Without a word on what SkyPilot puts onto machines nothing is launched, and what to write is named."""
    provider = provider_at(simulator, tmp_path, account_on_machines=False)
    for call in (provider.standing, lambda: provider.launch(lease_for(), ticket)):
        with pytest.raises(LaunchRefused) as caught:
            call()
        assert "providers.sky.account_on_machines" in caught.value.where
    assert not any(one.startswith("POST /launch") for one in simulator.seen)


def test_a_server_that_wants_a_token(tmp_path: Path, ticket: Path) -> None:
    """Without a token, or with one of a person pasted with more, the one who has to act is told what to do."""
    with simulated.running("sky_good") as simulator:
        with pytest.raises(TokenRefused, match="expected a token, got none"):
            provider_at(simulator, tmp_path).standing()
        (tmp_path / "token").write_text("Bearer sky_good")
        (tmp_path / "token").chmod(0o600)
        with pytest.raises(TokenRefused, match="one word"):
            provider_at(simulator, tmp_path, token="file:token").list_ours()
        (tmp_path / "token").write_text("sky_good")
        assert provider_at(simulator, tmp_path, token="file:token").standing().who == "whetstone"
    with pytest.raises(TokenRefused, match="without a user"):
        provider_at(simulator, tmp_path, url="http://a:b@127.0.0.1:1").standing()


def test_what_is_asked_for(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """Type, region and image are pinned; autostop ends the machine; no retries; the claim is a secret alone."""
    provider = provider_at(simulator, tmp_path, idle_minutes=3)
    provider.launch(lease_for(price_cap=2.0), ticket)
    task = simulator.machines.clusters[NAME].task
    assert task["resources"] == {
        "infra": "lambda/us-east-1", "instance_type": "gpu_1x_a10", "accelerators": "A10:1", "use_spot": False,
        "image_id": "docker:ghcr.io/whetstone-edge/trainer:0.1.0", "max_hourly_cost": 2.0,
        "autostop": {"idle_minutes": 3, "down": True, "wait_for": "jobs"}, "labels": {"whetstone": NAME},
    }  # fmt: skip
    assert set(task["secrets"]) == {"WHETSTONE_CLAIM"}
    assert "WHETSTONE_CLAIM" not in task["envs"]
    assert task["run"].endswith("python -m trainer rented")
    sent = next(one for one in simulator.seen if one.startswith("POST /launch"))
    body = json.loads(sent.partition(" /launch ")[2])
    assert body["retry_until_up"] is False
    kept = body["override_skypilot_config"]
    assert {one["remote_identity"] for one in kept.values()} == {"NO_UPLOAD"}


def test_offer_that_changed_is_refused(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """An offer that is gone, or dearer than the lease allows, is refused before the server is asked."""
    provider = provider_at(simulator, tmp_path)
    with pytest.raises(LaunchRefused, match=r"got \$0.75"):
        provider.launch(lease_for(price_cap=0.10), ticket)
    for gone in (lease_for("lambda/mars-1/gpu_1x_a10/A10:1"), lease_for(spot=True)):
        with pytest.raises(LaunchRefused, match="no such offer any more"):
            provider.launch(gone, ticket)
    assert not any(one.startswith("POST /launch") for one in simulator.seen)


def test_offer_that_grew_dearer_is_refused(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """Without a cap too: what was agreed is what is paid, and a price that rose is weighed against others."""
    lease = lease_for().model_copy(update={"price": 0.5})
    with pytest.raises(LaunchRefused, match=r"got \$0.75"):
        provider_at(simulator, tmp_path).launch(lease, ticket)
    assert not any(one.startswith("POST /launch") for one in simulator.seen)


@pytest.mark.parametrize("answer", [None, {}, "none", [3], [{"status": "UP"}]])
def test_answer_of_another_shape_is_not_an_empty_list(
    simulator: Simulator, tmp_path: Path, ticket: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """A list that is none says nothing of machines: none is believed to have ended, whichever list it is."""
    provider = provider_at(simulator, tmp_path)
    provider.launch(lease_for(), ticket)
    for page in ("look", "ask"):
        with monkeypatch.context() as patch:
            patch.setattr(provider._server, page, lambda *_, **__: answer)
            for call in (provider.list_ours, lambda: provider.status(NAME)):
                with pytest.raises(ProviderAway, match="of another shape"):
                    call()


def test_job_that_nobody_can_tell_of_is_not_over(
    simulator: Simulator, tmp_path: Path, ticket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose job's status comes in another shape runs on, as far as anybody knows."""
    provider = provider_at(simulator, tmp_path)
    provider.launch(lease_for(), ticket)
    ask = provider._server.ask
    asked: list[str] = []

    def another(path: str, *more: Any, **named: Any) -> Any:
        asked.append(path)
        return ["RUNNING"] if path == "/job_status" else ask(path, *more, **named)

    monkeypatch.setattr(provider._server, "ask", another)
    assert provider.status(NAME) == MachineStatus("running", "its job cannot be asked for")
    assert "/job_status" in asked


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_job_that_begins_too_late_has_a_second(shell: str) -> None:
    """A job whose lease is over is not run without a limit: for `timeout`, 0 seconds would mean that."""
    run = [shell, "-c", script(("sleep", "60"))]
    for past in ("2020-01-01T00:00:00+00:00", "$(date)"):
        line = run if past != "$(date)" else [shell, "-c", f"{UNTIL}=$(date -Is); export {UNTIL}; {run[2]}"]
        assert (
            subprocess.run(line, env={**os.environ, UNTIL: past}, timeout=30, check=False).returncode == 124
        )


def test_section_chooses_clouds_regions_and_gpus(simulator: Simulator, tmp_path: Path) -> None:
    """Offers are those of the clouds, regions and GPUs the settings name, by anybody's way to write a GPU."""
    chosen = {
        "clouds": provider_at(simulator, tmp_path, clouds=["RunPod"]),
        "regions": provider_at(simulator, tmp_path, regions=["us-west-1"]),
        "gpus": provider_at(simulator, tmp_path, gpus=["NVIDIA A100-SXM4-80GB"]),
        "none": provider_at(simulator, tmp_path, clouds=["aws"]),
    }
    found = {name: [one.region for one in provider.offers()] for name, provider in chosen.items()}
    assert found == {
        "clouds": ["runpod/US"] * 2,
        "regions": ["lambda/us-west-1"],
        "gpus": ["runpod/US"],
        "none": [],
    }


def test_what_is_not_ours_is_not_touched(simulator: Simulator, tmp_path: Path) -> None:
    """Names that are not ours are gone for us, whatever runs under them."""
    simulator.machines.clusters["notebook"] = SimulatedCluster("notebook", {}, "UP", True, "RUNNING", 1)
    provider = provider_at(simulator, tmp_path)
    assert provider.status("notebook").state == "gone"
    assert provider.logs("notebook") == ""
    provider.terminate("notebook")
    assert "notebook" in simulator.machines.clusters


def test_cloud_that_does_not_take_the_end(simulator: Simulator, tmp_path: Path, ticket: Path) -> None:
    """A cluster its cloud would not end stays known, is still listed, and nothing is purged."""
    provider = provider_at(simulator, tmp_path)
    provider.launch(lease_for(), ticket)
    simulator.machines.down = refuse  # type: ignore[method-assign]
    with pytest.raises(ProviderAway, match="Failed to terminate"):
        provider.terminate(NAME)
    assert [one.machine for one in provider.list_ours()] == [NAME]
    assert not any('"purge": true' in one for one in simulator.seen)
