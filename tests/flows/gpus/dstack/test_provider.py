"""Check what only dstack has: fleets, states, plans that are no promise, and answers of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import Lease
from flows.database import Database
from flows.gpus.base import MachineStatus
from flows.gpus.dstack import specs, states
from flows.gpus.dstack.answers import read_answer
from flows.gpus.dstack.offers import place_of, read_offers, why_gone
from flows.gpus.dstack.provider import PAGE, DstackProvider
from flows.gpus.dstack.shapes import Row, offer, plan
from flows.gpus.dstack.simulated_account import Fleet
from flows.gpus.dstack.simulator import DstackSimulator
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import MACHINE_ENDED, LeaseBook
from flows.gpus.outlook import Need, Progress
from flows.gpus.settings import DstackSection
from flows.gpus.starting import CLAIM, Start
from flows.gpus.tags import tag_of
from flows.gpus.tenancy import Tenant
from tests.flows.gpus.contract import INSTALLATION, write_ticket

TOKEN = "f3a1b0d2-dstack-t0ken"
RTX = Row("runpod", "EU-RO-1", "NVIDIA GeForce RTX 4090", "RTX4090", 24576, 0.69)


class Place:
    """Hold a simulator, the adapter that rents there, and how to launch."""

    def __init__(self, folder: Path, simulator: DstackSimulator, **settings: Any) -> None:
        self.folder, self.simulator = folder, simulator
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.section = DstackSection(kind="dstack", url=simulator.url, token="file:token", **settings)
        self.provider = DstackProvider(
            "clouds", self.section, INSTALLATION, folder, now=simulator.account.clock
        )

    def lease(self, number: int = 1, **changes: Any) -> Lease:
        first = self.provider.offers()[0]
        made = Lease(
            task_id="plates", lease_id=f"lease-{number:016x}", run_id="run-0123456789abcdef", provider="clouds",
            offer=first, price_cap=0.0, deadline=utc_now() + timedelta(hours=2), state="recorded",
            recorded_at=utc_now(), price=first.on_demand_price,
        )  # fmt: skip
        return made.model_copy(update=changes)

    def launch(self, lease: Lease) -> str:
        return self.provider.launch(lease, write_ticket(self.folder / "ticket.json"))

    def state_of(self, machine: str, *states: str) -> MachineStatus:
        """Return the status once it is one of the states; each look lets the server go on by one."""
        for _ in range(20):
            status = self.provider.status(machine)
            if status.state in states:
                return status
        pytest.fail(f"{machine} is {status} after 20 looks")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with DstackSimulator(TOKEN) as simulator:
        yield Place(tmp_path, simulator)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("failed_to_start_due_to_no_capacity", "tried 1 of 1 offers, all failed"),
        ("waiting_runner_limit_exceeded", "Runner did not become available within 600.0s."),
        ("creating_container_error", "pull access denied"),
    ],
)
def test_run_that_was_taken_and_got_no_machine(place: Place, reason: str, message: str) -> None:
    """A machine that a seller did not give after all has ended, and the detail says why."""
    place.simulator.account.fails_next.append((reason, message))
    machine = place.launch(place.lease())
    status = place.state_of(machine, "ended")
    assert reason in status.detail
    assert message in status.detail
    assert not any(run.costs for run in place.simulator.look().runs.values())


def test_tenant_moves_on_from_sellers_that_give_nothing(place: Place, tmp_path: Path) -> None:
    """A run whose sellers take it and give nothing gets a machine in the end, and every lease says why."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    account, book = place.simulator.account, LeaseBook(database, place.simulator.account.clock)
    account.fails_next += [("failed_to_start_due_to_no_capacity", "tried 1 of 1 offers, all failed")] * 2
    need = Need(
        "plates", "run-0123456789abcdef", account.clock() + timedelta(hours=8), has_deadline=True, price_cap=0.0,
        work_minutes=60, cold_start=4, epoch=3, fits=lambda _: True, spot=False,
    )  # fmt: skip
    ticket = write_ticket(tmp_path / "ticket.json")
    tenant = Tenant(book, {"clouds": place.provider}, need, lambda: ticket)
    for _ in range(60):
        with suppress(ProviderAway):
            tenant.step(Progress())
    assert account.fails_next == []
    assert tenant.is_running()
    first, second, last = book.of_run("run-0123456789abcdef")
    assert {first.end_reason, second.end_reason} == {MACHINE_ENDED}
    assert [one.machine for one in place.provider.list_ours()] == [last.machine]
    database.close()


def test_spot_machine_that_was_interrupted(place: Place) -> None:
    """A preemption is told as dstack names it."""
    machine = place.launch(place.lease())
    assert place.provider.status(machine) == MachineStatus("running", "running")
    place.simulator.account.runs[machine].end("failed", "job_failed", "interrupted_by_no_capacity")
    assert place.state_of(machine, "ended").detail == "failed: interrupted_by_no_capacity"


@pytest.mark.parametrize(
    ("run", "instances", "expected"),
    [
        (None, (), "gone"),
        (None, ("idle",), "running"),
        ("pending", (), "running"),
        ("submitted", (), "running"),
        ("provisioning", ("provisioning",), "running"),
        ("running", ("busy",), "running"),
        ("terminating", ("busy",), "running"),
        ("a state of tomorrow", (), "running"),
        ("terminated", (), "ended"),
        ("failed", ("terminated",), "ended"),
        ("done", (), "ended"),
        ("done", ("terminating",), "running"),
        ("failed", ("idle",), "running"),
    ],
)
def test_every_state_of_a_machine(run: str | None, instances: tuple[str, ...], expected: str) -> None:
    """A machine has ended when its run is over and no instance lives; what is unknown may cost."""
    fleet = {"status": "active", "instances": [{"name": "ws-0", "status": state} for state in instances]}
    told = {"status": run, "latest_job_submission": None} if run is not None else None
    assert states.status_of(told, fleet).state == expected


def test_instance_that_outlives_its_run(place: Place) -> None:
    """An instance whose run is over still costs: it is listed, called running, and ended with its fleet."""
    place.simulator.account.keeps_instances = True
    machine = place.launch(place.lease())
    place.provider.terminate(machine)
    run = place.simulator.account.runs[machine]
    while not run.is_over:
        place.simulator.look()
    assert place.provider.status(machine) == MachineStatus("running", f"its run is over, {machine}-0 is idle")
    assert [one.machine for one in place.provider.list_ours()] == [machine]
    place.provider.terminate(machine)
    place.state_of(machine, "ended")
    assert place.provider.list_ours() == ()
    assert place.simulator.account.secrets == {}


def test_fleet_that_was_left_behind(place: Place) -> None:
    """A fleet without a run, as a launch that was cut short leaves it, is listed, and ended like a machine."""
    account, machine = place.simulator.account, tag_of(INSTALLATION, "lease-00000000000000bb")
    account.fleets[machine] = Fleet({"configuration": {"name": machine}}, account.clock())
    (left,) = place.provider.list_ours()
    assert (left.machine, left.lease_id) == (machine, "lease-00000000000000bb")
    place.provider.terminate(machine)
    assert place.provider.list_ours() == ()
    while machine in account.fleets:
        assert place.provider.status(machine).state == "gone"


def test_launch_goes_on_where_it_was_cut_short(place: Place) -> None:
    """A launch that has its fleet already takes it; one whose fleet is being deleted waits until it is gone."""
    lease, account = place.lease(), place.simulator.account
    machine = tag_of(INSTALLATION, lease.lease_id)
    account.fleets[machine] = Fleet({"configuration": {"name": machine}}, account.clock(), "terminating")
    account.fleets[machine].looks = -100  # for a long time yet
    with pytest.raises(ProviderAway, match="being deleted"):
        place.launch(lease)
    assert account.runs == {}
    while machine in account.fleets:
        place.simulator.look()
    account.fleets[machine] = Fleet({"configuration": {"name": machine}}, account.clock())
    assert place.launch(lease) == machine
    assert len(account.fleets) == 1


def test_refused_run_leaves_nothing(place: Place) -> None:
    """A run that dstack does not take leaves neither fleet nor secret nor machine."""
    lease, account = place.lease(), place.simulator.account
    account.refuses_next.append("Maximum utilization_policy.time_window is 3600s")
    with pytest.raises(LaunchRefused, match="Maximum utilization_policy"):
        place.launch(lease)
    assert account.runs == {}
    assert account.secrets == {}
    assert place.provider.list_ours() == ()


def test_user_that_may_not_keep_secrets(place: Place) -> None:
    """Without the right to keep the claim hidden nothing is launched, and the token is named."""
    lease = place.lease()
    place.simulator.may_keep_secrets = False
    with pytest.raises(TokenRefused, match="Access denied") as caught:
        place.launch(lease)
    assert "manager or admin" in str(caught.value.diagnostics())
    assert place.simulator.account.runs == {}


def test_time_to_boot_is_not_run_time(place: Place) -> None:
    """It counts max_duration from when the task runs: a machine may last its boot longer than its lease."""
    place.simulator.account.boot = timedelta(minutes=6)
    lease = place.lease(deadline=place.simulator.account.clock() + timedelta(minutes=30))
    machine = place.launch(lease)
    assert place.provider.status(machine) == MachineStatus("running", "provisioning")
    place.simulator.advance(timedelta(minutes=31))
    assert place.provider.status(machine).detail == "running"
    place.simulator.advance(timedelta(minutes=6))
    assert "max_duration" in place.state_of(machine, "ended").detail


@pytest.mark.parametrize(
    ("url", "outlives", "kind"),
    [
        ("https://dstack.example", None, "server-deadline"),
        ("http://10.0.0.7:3000", None, "server-deadline"),
        ("http://127.0.0.1:3000", None, "none"),
        ("http://localhost:3000", None, "none"),
        ("http://[::1]:3000", None, "none"),
        ("http://127.0.0.1:3000", True, "server-deadline"),
        ("https://dstack.example", False, "none"),
    ],
)
def test_server_that_ends_with_us_keeps_no_deadline(url: str, outlives: bool | None, kind: str) -> None:
    """A server on this host ends nothing once this host is gone, unless somebody says that it stays."""
    section = DstackSection(kind="dstack", url=url, token="env:NONE", outlives_us=outlives)
    assert DstackProvider("clouds", section, INSTALLATION, Path()).traits.ending.kind == kind


def test_list_goes_through_all_pages(place: Place) -> None:
    """Ours are found behind any number of other people's runs."""
    account = place.simulator.account
    ours = place.launch(place.lease())
    for number in range(PAGE + 20):
        configuration = {"name": f"other-{number}", "fleets": [ours], "env": {}}
        account.apply({"run_name": f"other-{number}", "configuration": configuration})
    account.fleets.clear()
    assert [one.machine for one in place.provider.list_ours()] == [ours]
    assert sum(one.path == "/api/runs/list" for one in place.simulator.seen) == 2


def test_logs_are_the_last_lines_in_order(place: Place) -> None:
    """Of much output the end is returned, oldest first."""
    machine = place.launch(place.lease())
    place.simulator.account.runs[machine].lines += [f"step {number}" for number in range(500)]
    lines = place.provider.logs(machine).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (200, "step 300", "step 499")


def test_offers_of_several_zones_and_without_a_price() -> None:
    """Of two with one name the cheapest counts; what costs 0 or cannot be had is left out or unknown."""
    rows = [
        offer(RTX, "available"),
        offer(Row("runpod", "EU-RO-1", RTX.instance, "RTX4090", 24576, 0.59), "available"),
        offer(Row("runpod", "EU-RO-1", RTX.instance, "RTX4090", 24576, 0.1), "no_quota"),
        offer(Row("kubernetes", "here", "node", "T4", 16384, 0.0), "unknown"),
        offer(Row("aws", "us-east-1", "p3", "V100", 16384, 3.0), "idle"),
        {**offer(RTX, "available"), "instance": {"name": "c5", "resources": {"gpus": []}}},
    ]
    found = {one.gpu: one for one in read_offers(plan("main", {}, rows), "clouds", (), utc_now())}
    assert set(found) == {"RTX4090", "T4"}
    assert (found["RTX4090"].on_demand_price, found["RTX4090"].spot_price) == (0.59, None)
    assert found["T4"].on_demand_price is None


@pytest.mark.parametrize("price", [0.0, -0.5, float("nan"), float("inf")])
def test_price_that_is_none_is_not_the_cheapest(price: float) -> None:
    """What is no price is unknown, spoils no other offer, and is not taken for below what was agreed."""
    odd = {**offer(Row("aws", "us-east-1", "g4", "T4", 16384, 0.5), "available"), "price": price}
    found = {
        one.gpu: one
        for one in read_offers(plan("main", {}, [odd, offer(RTX, "available")]), "c", (), utc_now())
    }
    assert (found["T4"].on_demand_price, found["RTX4090"].on_demand_price) == (None, 0.69)
    place = place_of(found["T4"].offer_id)
    assert place is not None
    assert "not known" in why_gone(plan("main", {}, [odd]), place, spot=False, ceiling=0.5)


def test_no_measure_of_utilisation_where_none_is_wanted() -> None:
    """At 0 percent dstack is told to end nothing for being idle."""
    place = place_of("runpod/EU-RO-1/a/b/1xT4-16384")
    assert place is not None
    assert place.instance == "a/b"
    wish = specs.Wish("ws-a-0000000000000001", place, spot=True, ceiling=None, seconds=5)
    for least, expected in ((0, None), (7, {"min_gpu_utilization": 7, "time_window": 1800})):
        section = DstackSection(
            kind="dstack", url="http://none", token="env:NONE", least_utilisation=least, idle_minutes=30
        )
        made = specs.run_spec(section, wish, Start("image", {CLAIM: "https://claim"}))["configuration"]
        assert made["utilization_policy"] == expected
        assert (made["max_duration"], made["max_price"], made["spot_policy"]) == (60, None, "spot")
        assert "https://claim" not in json.dumps(made)
    assert place_of("this-machine") is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (200, b"null", "good", ""),
        (200, b"<html>", "away", "HTTP 200 and no JSON"),
        (401, b'{"detail":"Not authenticated"}', "token", "HTTP 401: Not authenticated"),
        (403, b'{"detail":{"msg":"Access denied","code":null}}', "token", "HTTP 403: Access denied"),
        (403, b"<html>blocked</html>", "away", "HTTP 403 and no JSON"),
        (404, b'{"detail":{"msg":"Not found","code":null}}', "project", "HTTP 404: Not found"),
        (
            400,
            b'{"detail":[{"msg":"Resource not found","code":"resource_not_exists"}]}',
            "missing",
            "HTTP 400: Resource not found",
        ),
        (
            400,
            b'{"detail":[{"msg":"Failed to delete fleets: fleets are being processed currently. Try again later."}]}',
            "away",
            "HTTP 400: Failed to delete fleets: fleets are being processed currently. Try again later.",
        ),
        (
            422,
            b'{"detail":[{"type":"missing","loc":["body","value"],"msg":"Field required","input":{"x":"s3cret"}}]}',
            "refused",
            "HTTP 422: body.value: Field required",
        ),
        (422, b'{"detail":[{"loc":null,"msg":"No"},{"loc":3,"msg":"No"}]}', "refused", "HTTP 422: No; No"),
        (405, b'{"detail":"Method Not Allowed"}', "refused", "HTTP 405: Method Not Allowed"),
        (429, b"{}", "away", "HTTP 429: no message"),
        (500, b'"Internal Server Error"', "away", "HTTP 500: no message"),
        (502, b"", "away", "HTTP 502 and no JSON"),
    ],
)
def test_every_answer_has_its_meaning(status: int, body: bytes, kind: str, said: str) -> None:
    """Refusals, missing things, rights and weather are told apart; what we sent is not repeated."""
    answer = read_answer(status, body)
    assert (answer.kind, answer.said) == (kind, said)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"job_plans": [{}]}, {"job_plans": [{"offers": [{"a": 1}]}]}]
)
def test_answer_of_another_shape_is_no_answer(
    place: Place, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON that is not dstack's breaks nobody: the server is away."""
    monkeypatch.setattr(place.simulator, "_answer", lambda _: (200, answer))
    with pytest.raises(ProviderAway, match="another"):
        place.provider.offers()
    with pytest.raises(ProviderAway, match="another"):
        place.provider.standing()


@pytest.mark.parametrize("job", [3, [1], {"status": "failed"}])
def test_machine_told_in_another_shape(place: Place, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose job cannot be read breaks nobody who asks how it is, or for its log."""
    machine = place.launch(place.lease())
    run = {"status": "running", "latest_job_submission": job}
    monkeypatch.setattr(place.simulator, "_answer", lambda _: (200, run))
    with pytest.raises(ProviderAway, match="another"):
        place.provider.logs(machine)
    if not isinstance(job, dict):
        with pytest.raises(ProviderAway, match="another"):
            place.provider.status(machine)
