"""Hold the adapter, and its simulator, against dstack's real server on loopback: offers, errors, listing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.dstack import specs
from flows.gpus.dstack.offers import place_of
from flows.gpus.dstack.provider import DstackProvider
from flows.gpus.dstack.simulator import DstackSimulator, Seen
from flows.gpus.errors import LaunchRefused, TokenRefused
from flows.gpus.settings import DstackSection
from flows.gpus.starting import CLAIM, Start
from flows.gpus.tags import tag_of
from tests.flows.gpus.contract import CLAIM_URL, INSTALLATION, write_ticket
from tests.flows.gpus.dstack.real import TOKEN, RealDstack, real_dstack
from tests.helpers import wait_until

PATIENCE = 60.0
"""Seconds dstack's own workers may take; they look every few seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDstack]:
    with real_dstack(tmp_path_factory.mktemp("dstack"), works=False) as running:
        yield running


def provider_at(server: RealDstack, token: str = TOKEN, **settings: Any) -> DstackProvider:
    (server.folder / "token").write_text(token)
    (server.folder / "token").chmod(0o600)
    section = DstackSection(kind="dstack", url=server.url, token="file:token", **settings)
    return DstackProvider("clouds", section, INSTALLATION, server.folder)


def lease_for(offer: GpuOffer, number: int, **changes: Any) -> Lease:
    made = Lease(
        task_id="plates", lease_id=f"lease-{number:016x}", run_id="run-0123456789abcdef", provider="clouds",
        offer=offer, price_cap=0.0, deadline=utc_now() + timedelta(hours=2), state="recorded",
        recorded_at=utc_now(), price=offer.on_demand_price,
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_offers_are_the_catalogues(server: RealDstack) -> None:
    """Every NVIDIA instance of the catalogue is one offer with both its prices; a spot price of 0 is unknown."""
    offers = {one.gpu: one for one in provider_at(server).offers()}
    assert set(offers) == {"RTX4090", "A100", "A6000"}
    rtx = offers["RTX4090"]
    assert rtx.offer_id == "runpod/EU-RO-1/NVIDIA GeForce RTX 4090/1xRTX4090-24576"
    assert (rtx.on_demand_price, rtx.spot_price) == (0.69, 0.34)
    assert (rtx.region, rtx.price_source) == ("runpod/EU-RO-1", "dstack/runpod")
    assert (rtx.cpu_count, rtx.memory_mib) == (16, 62 * 1024)
    assert (offers["A100"].on_demand_price, offers["A100"].spot_price) == (1.64, None)
    assert (offers["A6000"].gpu_count, offers["A6000"].on_demand_price) == (2, 0.98)


def test_offers_keep_to_the_settings(server: RealDstack) -> None:
    """GPU names in nvidia-smi's spelling, regions and backends narrow the offers."""
    names = [one.gpu for one in provider_at(server, gpus=("NVIDIA A100-SXM4-80GB",)).offers()]
    assert names == ["A100"]
    assert [one.gpu for one in provider_at(server, regions=("EU-RO-1",)).offers()] == ["RTX4090"]
    assert provider_at(server, backends=("aws",)).offers() == ()


def test_standing_names_the_user(server: RealDstack) -> None:
    """The user is named; the rest of dstack's answer, a token and a private key among it, is not kept."""
    assert provider_at(server).standing().who == "admin in main"


@pytest.mark.parametrize("fault", ["wrong", "unknown project", "no right"])
def test_tokens_that_do_not_do(server: RealDstack, fault: str) -> None:
    """A wrong token, another project's, and one whose user may not keep secrets are refused, each with why."""
    token = server.make_user("worker", "user") if fault == "no right" else TOKEN
    provider = {
        "wrong": lambda: provider_at(server, "a-wrong-t0ken"),
        "unknown project": lambda: provider_at(server, project="other"),
        "no right": lambda: provider_at(server, token),
    }[fault]()
    with pytest.raises(TokenRefused) as caught:
        provider.standing()
    said = {"wrong": "Invalid token", "unknown project": "Not found", "no right": "Access denied"}[fault]
    assert said in caught.value.got
    assert "file:token" in caught.value.where
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price": 0.5}, "its price is $0.69 an hour, above $0.5"),
        ({"price_cap": 0.6}, "its price is $0.69 an hour, above $0.6"),
        ({"spot": True, "price": 0.2}, "its price is $0.34 an hour, above $0.2"),
    ],
)
def test_offer_that_became_dearer(
    server: RealDstack, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """An offer that costs more than was agreed is refused before anything is made on the server."""
    provider = provider_at(server)
    offer = next(one for one in provider.offers() if one.gpu == "RTX4090")
    with pytest.raises(LaunchRefused) as caught:
        provider.launch(lease_for(offer, 1, **changes), write_ticket(tmp_path / "ticket.json"))
    assert caught.value.got == said
    assert provider.list_ours() == ()


def test_offer_that_vanished(server: RealDstack, tmp_path: Path) -> None:
    """An instance that the catalogue has no more is refused, and so is a backend dstack never heard of."""
    provider = provider_at(server)
    offer = next(one for one in provider.offers() if one.gpu == "RTX4090")
    ticket = write_ticket(tmp_path / "ticket.json")
    for known, other in (("RTX 4090", "RTX 4099"), ("runpod", "nobodys")):
        gone = offer.model_copy(update={"offer_id": offer.offer_id.replace(known, other)})
        with pytest.raises(LaunchRefused):
            provider.launch(lease_for(gone, 2), ticket)
    assert provider.list_ours() == ()


def test_launch_without_a_cloud(server: RealDstack, tmp_path: Path) -> None:
    """The server takes the run once, lists it, shows nobody the claim, and takes our order to end it."""
    provider = provider_at(server)
    offer = next(one for one in provider.offers() if one.gpu == "A100")
    lease, ticket = lease_for(offer, 3), write_ticket(tmp_path / "ticket.json")
    machine = provider.launch(lease, ticket)
    assert machine == tag_of(INSTALLATION, lease.lease_id)
    assert provider.launch(lease, ticket) == machine
    assert [(one.machine, one.lease_id) for one in provider.list_ours()] == [(machine, lease.lease_id)]
    assert provider.logs(machine) == ""
    assert provider.status(machine).detail == "submitted"
    _, run = server.ask("project/main/runs/get", {"run_name": machine})
    configuration = run["run_spec"]["configuration"]
    assert configuration["env"][CLAIM] == f"${{{{ secrets.{specs.secret_name(machine)} }}}}"
    assert 7000 < configuration["max_duration"] <= 7200
    assert (configuration["max_price"], configuration["retry"]) == (1.64, False)
    lists = [
        server.ask(path, {})
        for path in ("runs/list", "project/main/fleets/list", "project/main/secrets/list")
    ]
    assert CLAIM_URL not in json.dumps([run, lists])
    for _ in range(2):
        provider.terminate(machine)
        assert provider.status(machine).detail == "terminating: aborted_by_user"


@pytest.mark.soak
def test_launch_that_failed_is_cleared_away(tmp_path: Path) -> None:
    """A run whose seller gives nothing ends and says so; ended by us, no fleet and no secret of it is left."""
    with real_dstack(tmp_path / "server", works=True) as server:
        provider = provider_at(server)
        offer = next(one for one in provider.offers() if one.gpu == "A6000")
        machine = provider.launch(lease_for(offer, 4), write_ticket(tmp_path / "ticket.json"))
        wait_until(lambda: provider.status(machine).state == "ended", PATIENCE, "the run to be over")
        assert "failed_to_start_due_to_no_capacity" in provider.status(machine).detail
        assert [one.machine for one in provider.list_ours()] == [machine], (
            "its fleet could start an instance yet"
        )

        def cleared() -> bool:
            provider.terminate(machine)
            return machine not in {one.machine for one in provider.list_ours()}

        wait_until(cleared, PATIENCE, "the fleet to be deleted")
        secrets = server.ask("project/main/secrets/list", {})[1]
        assert specs.secret_name(machine) not in {one["name"] for one in secrets}


def test_simulator_answers_as_the_server_does(server: RealDstack, tmp_path: Path) -> None:
    """The simulator's status, words and fields are the real server's, question by question."""
    with DstackSimulator(TOKEN) as simulator:
        told = []
        for path, body, token in _questions():
            real = server.ask(path, body, token)
            reply = simulator.reply(Seen(f"/api/{path}", json.dumps(body), f"Bearer {token}"))
            assert reply is not None
            ours = (reply[0], json.loads(reply[1]))
            if (ours[0], _words(ours[1])) != (real[0], _words(real[1])):
                told.append(f"{path}: {ours[0]} {_words(ours[1])} is not {real[0]} {_words(real[1])}")
    assert not told, "\n".join(told)


def _questions() -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield calls that work and calls that are refused, in an order in which each has its sense."""
    place = place_of("runpod/EU-RO-1/NVIDIA GeForce RTX 4090/1xRTX4090-24576")
    assert place is not None
    tag = "ws-plant9-00000000000000aa"
    wish = specs.Wish(tag, place, spot=False, ceiling=0.69, seconds=3600)
    section = DstackSection(kind="dstack", url="http://none", token="env:NONE")
    run = specs.run_spec(section, wish, Start("image", {CLAIM: "https://claim"}))
    other = {**run, "configuration": {**run["configuration"], "max_price": 0.7}}
    extra = {**run, "configuration": {**run["configuration"], "colour": "red"}}
    apply = {"plan": {"run_spec": run, "current_resource": None}, "force": False}
    project = "project/main"
    yield "users/get_my_user", {}, "a-wrong-t0ken"
    yield "users/get_my_user", {}, TOKEN
    yield "no/such/call", {}, TOKEN
    yield "project/other/fleets/list", {}, TOKEN
    yield f"{project}/runs/get_plan", specs.offers_query(section), TOKEN
    yield f"{project}/runs/get_plan", specs.place_query(section, replace(wish, spot=True)), TOKEN
    yield f"{project}/runs/get_plan", {}, TOKEN
    yield f"{project}/runs/get_plan", {"run_spec": extra}, TOKEN
    yield f"{project}/runs/get", {"run_name": tag}, TOKEN
    yield f"{project}/runs/stop", {"runs_names": [tag], "abort": True}, TOKEN
    yield f"{project}/fleets/get", {"name": tag}, TOKEN
    yield f"{project}/fleets/delete", {"names": [tag]}, TOKEN
    yield f"{project}/secrets/delete", {"secrets_names": [specs.secret_name(tag)]}, TOKEN
    yield f"{project}/secrets/create_or_update", {"name": specs.secret_name(tag), "value": "https://c"}, TOKEN
    yield f"{project}/secrets/list", {}, TOKEN
    fleet = {"plan": {"spec": specs.fleet_spec(wish), "current_resource": None}, "force": False}
    yield f"{project}/fleets/apply", fleet, TOKEN
    yield f"{project}/runs/apply", apply, TOKEN
    yield f"{project}/runs/apply", apply, TOKEN
    yield f"{project}/runs/apply", {**apply, "plan": {"run_spec": other, "current_resource": None}}, TOKEN
    yield f"{project}/runs/get", {"run_name": tag}, TOKEN
    yield (
        "runs/list",
        {"project_name": "main", "only_active": True, "include_jobs": False, "limit": 100},
        TOKEN,
    )
    yield f"{project}/fleets/get", {"name": tag}, TOKEN
    yield f"{project}/secrets/delete", {"secrets_names": [specs.secret_name(tag)]}, TOKEN


def _words(answer: Any) -> Any:
    """Return what must agree of two answers: messages and codes of a refusal, the field names of a result."""
    if isinstance(answer, dict) and "detail" in answer:
        detail = answer["detail"]
        return [_words_of(one) for one in detail] if isinstance(detail, list) else detail
    if isinstance(answer, list):
        return sorted({str(_words(one)) for one in answer})
    if isinstance(answer, dict):
        return sorted(answer)
    return answer


def _words_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("input", "url", "ctx")}
