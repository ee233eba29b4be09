"""Hold the adapter, and the simulated server, to SkyPilot's real API server 0.14.1 without an account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import Lease
from flows.gpus.errors import GpuError, LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.settings import SkypilotSection
from flows.gpus.skypilot import client
from flows.gpus.skypilot import simulator as simulated
from flows.gpus.skypilot.answers import RequestFailed, as_refusal
from flows.gpus.skypilot.client import Pace, SkypilotServer
from flows.gpus.skypilot.provider import SkypilotProvider
from flows.gpus.skypilot.simulated_clusters import CATALOG
from flows.gpus.skypilot.simulator import Simulator
from flows.gpus.skypilot.tasks import launch_body
from flows.gpus.starting import start_of
from flows.gpus.tags import tag_of
from tests.flows.gpus.contract import CLAIM_URL, INSTALLATION, write_ticket
from tests.flows.gpus.skypilot.conftest import RealServer
from tests.flows.gpus.skypilot.leases import LAMBDA, NAME, lease_for

PATIENT = 90.0
"""Seconds: on a busy machine the server takes long to start its workers."""
REFUSED = {
    "a cloud without account": (
        {"offer_id": "runpod/US/1x_RTX4090_SECURE/RTX4090:1"},
        "ResourcesUnavailableError",
    ),
    "a region that is not": ({"offer_id": "lambda/mars-1/gpu_1x_a10/A10:1"}, "ValueError"),
    "a type that is not": ({"offer_id": "lambda/us-east-1/gpu_77/A10:1"}, "ValueError"),
    "spot where there is none": ({"spot": True}, "ResourcesUnavailableError"),
}


@pytest.fixture
def twin() -> Iterator[Simulator]:
    """Return the simulated server."""
    with simulated.running() as simulator:
        yield simulator


def provider_at(url: str, folder: Path, **changes: object) -> SkypilotProvider:
    """Return an adapter."""
    section = {"kind": "skypilot", "url": url, "account_on_machines": True, **changes}
    pace = Pace(quick=PATIENT, asking=PATIENT, ending=PATIENT)
    return SkypilotProvider("sky", SkypilotSection.model_validate(section), INSTALLATION, folder, pace)


def body_of(folder: Path, lease: Lease, **changes: object) -> dict[str, object]:
    """Return the body our launch would send."""
    section = SkypilotSection(kind="skypilot", url="http://none", account_on_machines=True)
    start = start_of(lease, write_ticket(folder / "ticket.json"), section.image)
    return {**launch_body(lease, start, NAME, section), **changes}


def failure_at(url: str, body: dict[str, object]) -> RequestFailed:
    """Return how a launch fails."""
    with pytest.raises(RequestFailed) as caught:
        SkypilotServer(url, None).ask("/launch", body, PATIENT)
    return caught.value


def test_standing_and_empty_lists(server: RealServer, tmp_path: Path) -> None:
    """The server is good for launches, and knows no machine of ours: none is listed, what is asked for is gone."""
    provider = provider_at(server.url, tmp_path)
    assert provider.standing().who == "SkyPilot 0.14.1"
    assert provider.list_ours() == ()
    assert provider.status(NAME).state == "gone"
    assert provider.logs(NAME) == ""
    provider.terminate(NAME)


def test_offers_of_a_seeded_catalogue(server: RealServer, twin: Simulator, tmp_path: Path) -> None:
    """Only clouds with an account are offered; prices are the list's; 0 is no price; the twin says the same."""
    provider = provider_at(server.url, tmp_path)
    server.enable()
    assert provider.offers() == ()
    server.enable("Lambda", "RunPod")
    offers = {one.offer_id: one for one in provider.offers()}
    assert offers[LAMBDA].on_demand_price == 0.75
    assert offers[LAMBDA].spot_price is None
    assert offers["runpod/US/1x_RTX4090_SECURE/RTX4090:1"].spot_price is None, "0.0 is unknown, not free"
    big = offers["runpod/US/1x_A100-80GB_SECURE/A100-80GB:1"]
    assert (big.gpu, big.gpu_memory_mib, big.spot_price) == ("A100", 81920, 1.39)
    same = {one.offer_id: one for one in provider_at(twin.url, tmp_path).offers()}
    strip = {"priced_at": utc_now()}
    assert {k: v.model_copy(update=strip) for k, v in same.items()} == {
        k: v.model_copy(update=strip) for k, v in offers.items()
    }
    assert len(offers) == sum(map(len, CATALOG.values()))


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_at_once(
    server: RealServer, twin: Simulator, tmp_path: Path, what: str
) -> None:
    """The real server refuses with the type the twin refuses with, and the adapter takes it for a refusal."""
    changes, kind = REFUSED[what]
    server.enable("Lambda")
    twin.machines.enabled = ["lambda"]
    body = body_of(tmp_path, lease_for(**changes))
    real = failure_at(server.url, body)
    assert real.kind == kind
    assert isinstance(as_refusal(real), LaunchRefused)
    assert failure_at(twin.url, body).kind == kind
    assert CLAIM_URL not in str(as_refusal(real))


@pytest.mark.soak
def test_launch_the_server_cannot_carry_out(server: RealServer, tmp_path: Path) -> None:
    """A cloud whose package the server lacks refuses by name; nothing is left, and the reason can be read later."""
    server.enable("RunPod")
    provider = provider_at(server.url, tmp_path)
    ticket = write_ticket(tmp_path / "ticket.json")
    with pytest.raises(LaunchRefused, match="ImportError"):
        provider.launch(lease_for("runpod/US/1x_RTX4090_SECURE/RTX4090:1"), ticket)
    status = provider.status(NAME)
    assert status.state == "ended"
    assert "RunPod" in status.detail
    assert provider.list_ours() == ()


def test_wrong_token_and_wrong_version(
    server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token it does not know is named; versions it does not speak are told, with the one it should run."""
    (tmp_path / "token").write_text("sky_not.a.token")
    (tmp_path / "token").chmod(0o600)
    provider = provider_at(server.url, tmp_path, token="file:token")
    for call in (provider.standing, provider.offers, provider.list_ours):
        with pytest.raises(TokenRefused, match="file:token") as caught:
            call()
        assert "sky_not" not in str(caught.value)
    monkeypatch.setattr(client, "API_VERSION", "3")
    with pytest.raises(ProviderAway, match="too old") as away:
        provider_at(server.url, tmp_path).list_ours()
    assert "0.14.1" in away.value.diagnostics()


def test_twin_answers_in_the_same_form(server: RealServer, twin: Simulator) -> None:
    """Questions that go wrong, and empty answers, have one form on both servers."""
    kinds = []
    for url in (server.url, twin.url):
        sky = SkypilotServer(url, None)
        found: list[object] = [
            sky.ask("/status", {"cluster_names": [NAME]}, PATIENT),
            sky.look("/api/status", cluster_name=NAME),
        ]
        for path, body in (
            ("/down", {"cluster_name": NAME}),
            ("/job_status", {"cluster_name": NAME, "job_ids": None}),
            ("/launch", {"cluster_name": NAME}),
        ):
            with pytest.raises(RequestFailed) as caught:
                sky.ask(path, body, PATIENT)
            found.append((caught.value.kind, "Field required" in caught.value.got))
        with pytest.raises(GpuError) as lost:
            sky.result("no-such-request", 5.0)
        found.append(type(lost.value))
        kinds.append(found)
    assert kinds[0] == kinds[1]


@pytest.mark.soak
def test_our_task_is_taken_and_other_keys_stay_home(server: RealServer, tmp_path: Path) -> None:
    """A dry run takes our launch; the machine would get Lambda's key, as SkyPilot wants, and no other cloud's."""
    server.enable("Lambda")
    sky = SkypilotServer(server.url, None)
    ours = body_of(tmp_path, lease_for(), dryrun=True)
    sky.ask("/launch", ours, PATIENT)
    files = server.machine_file(NAME)
    assert "ghcr.io/whetstone-edge/trainer" in files
    assert "lambda_keys" in files
    assert "vast_api_key" not in files
    assert CLAIM_URL not in files
    # Without our settings SkyPilot would have copied that one too.
    sky.ask("/launch", {**ours, "override_skypilot_config": {}}, PATIENT)
    assert "vast_api_key" in server.machine_file(NAME)


@pytest.mark.soak
def test_price_cap_is_not_kept_by_skypilot(server: RealServer, tmp_path: Path) -> None:
    """SkyPilot takes a pinned type at any price: the adapter has to look at the price itself."""
    server.enable("Lambda")
    sky = SkypilotServer(server.url, None)
    sky.ask("/launch", body_of(tmp_path, lease_for(price_cap=0.10), dryrun=True), PATIENT)
    not_pinned = lease_for("lambda/us-east-1//A10:1", price_cap=0.10)
    assert (
        failure_at(server.url, body_of(tmp_path, not_pinned, dryrun=True)).kind == "ResourcesUnavailableError"
    )


@pytest.mark.soak
@pytest.mark.parametrize(("up", "state"), [(False, "ended"), (True, "running")])
def test_clusters_of_the_real_server(server: RealServer, tmp_path: Path, up: bool, state: str) -> None:
    """The server's own record of a cluster is listed, judged and ended; others' are left alone."""
    lease_id = "lease-8899aabbccddeeff"  # of no launch before
    ours, foreign = tag_of(INSTALLATION, lease_id), tag_of("plant8", lease_id)
    for name in (ours, foreign):
        server.know(name, up=up)
    provider = provider_at(server.url, tmp_path)
    assert [(one.machine, one.lease_id) for one in provider.list_ours()] == [(ours, lease_id)]
    assert provider.status(ours).state == state
    assert provider.logs(ours) == ""
    provider.terminate(ours)
    assert provider.list_ours() == ()
    assert provider.status(ours).state != "running"
    records = SkypilotServer(server.url, None).ask("/status", {"include_credentials": False}, PATIENT)
    assert [one["name"] for one in records] == [foreign]


@pytest.mark.soak
def test_no_cloud_at_all(server: RealServer, tmp_path: Path) -> None:
    """Without any account a launch is refused, after the server looked for one."""
    server.enable()
    failure = failure_at(server.url, body_of(tmp_path, lease_for()))
    assert failure.kind == "NoCloudAccessError"
    assert isinstance(as_refusal(failure), LaunchRefused)
