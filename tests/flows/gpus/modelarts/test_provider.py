"""See what is asked of ModelArts, and what its answers are taken for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.database import Database
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, Terms, end_machine, rent
from flows.gpus.modelarts import calls
from flows.gpus.modelarts.rules import Job, kind_of
from flows.gpus.modelarts.simulator import ModelArtsSimulator
from flows.gpus.sdk.calls import Kind, Refusal
from flows.gpus.sdk.keys import KeyPair
from flows.gpus.settings import ModelArtsSection
from tests.flows.gpus.contract import RUN, costs, terms, write_ticket
from tests.flows.gpus.modelarts.rig import SETTINGS, ModelArtsRig
from tests.flows.gpus.sdk.rig import KEY, Clock


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ModelArtsRig]:
    """Return a rig."""
    clock = Clock()
    with ModelArtsSimulator(KEY, clock) as simulator:
        yield ModelArtsRig(tmp_path, simulator, clock)


@pytest.fixture
def book(rig: ModelArtsRig, tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book by the seller's clock."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    yield LeaseBook(database, rig.now)
    database.close()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """Return a ticket."""
    return write_ticket(tmp_path / "ticket.json")


def test_job_is_asked_for_in_full(rig: ModelArtsRig, book: LeaseBook, ticket: Path) -> None:
    """A job runs our command once on what was offered; its end is its lease's, in whole hours."""
    lease = rent(book, rig.provider, terms(rig, timedelta(minutes=61)), ticket)
    asked = rig.simulator.jobs[lease.machine].asked
    assert asked["kind"] == "job"
    assert asked["algorithm"]["command"] == "python -m trainer rented"
    assert asked["algorithm"]["engine"] == {"image_url": "plant7/trainer:0.1.0"}
    assert asked["spec"] == {
        "resource": {"flavor_id": "modelarts.vm.gpu.t4u8", "node_count": 1},
        "auto_stop": {"time_unit": "HOURS", "duration": 2},
    }


def test_offers_are_what_is_priced_and_listed(rig: ModelArtsRig) -> None:
    """Prices are the settings' in dollars, none is spot; what is not listed is left out."""
    t4, v100 = rig.provider.offers()
    assert (t4.gpu, t4.on_demand_price, t4.spot_price) == ("T4", pytest.approx(1.4), None)
    assert (t4.cpu_count, t4.memory_mib, t4.region) == (8, 32 * 1024, "cn-north-4")
    assert (v100.gpu, v100.on_demand_price) == ("V100", 3.0)


def test_name_that_is_taken_is_the_job_itself(rig: ModelArtsRig, book: LeaseBook, ticket: Path) -> None:
    """A second launch of a lease is answered by the name's being taken, and returns the job that has it."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    assert rig.provider.launch(lease, ticket) == lease.machine
    rig.simulator.begin("lag")
    with pytest.raises(ProviderAway):
        rig.provider.launch(lease, ticket)
    assert rig.simulator.fired("lag") == 1
    assert costs(rig) == {lease.machine}


def test_every_page_is_read(rig: ModelArtsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs on later pages are seen as well."""
    monkeypatch.setattr(calls, "PAGE", 2)
    for number in range(5):
        rig.make_foreign(f"ws-plant7-{number:016x}")
        rig.advance(timedelta(seconds=1))
    assert [one.lease_id for one in rig.provider.list_ours()] == [f"lease-{one:016x}" for one in range(5)]


def test_job_the_seller_lost_sight_of(rig: ModelArtsRig, book: LeaseBook, ticket: Path) -> None:
    """An abnormal job has ended for us, may still cost, is listed, and is deleted to be sure."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.simulator.change(lease.machine, "Abnormal")
    assert rig.provider.status(lease.machine).state == "ended"
    assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]
    end_machine(rig.provider, lease.machine)
    assert rig.provider.list_ours() == ()
    assert rig.provider.status(lease.machine).state == "gone"


def test_job_that_ends_between_look_and_stop(
    rig: ModelArtsRig, book: LeaseBook, ticket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that comes too late is no error; one that is refused while the job goes on is."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    stop, became = calls.ModelArtsCalls.stop, []

    def late(self: calls.ModelArtsCalls, job_id: str) -> None:
        rig.simulator.change(job_id, became[-1])
        stop(self, job_id)

    monkeypatch.setattr(calls.ModelArtsCalls, "stop", late)
    became.append("Recovering")
    with pytest.raises(ProviderAway):
        rig.provider.terminate(lease.machine)
    became.append("Completed")
    rig.provider.terminate(lease.machine)


def test_endpoint_is_the_regions() -> None:
    """Without an address of its own the section means the region's public endpoint, over TLS."""
    section = ModelArtsSection.model_validate(SETTINGS)
    client = calls._client(section, KeyPair("AKID", "s3cret"))
    assert client._endpoints == ["https://modelarts.cn-north-4.myhuaweicloud.com"]
    client.close()


def test_strangers_job_is_not_stopped(rig: ModelArtsRig) -> None:
    """Even by its own id a job without our name is neither terminated nor deleted."""
    (person, *_) = rig.foreign()
    for phase in ("Running", "Abnormal"):
        rig.simulator.change(person, phase)
        rig.provider.terminate(person)
        assert rig.simulator.jobs[person].state == phase


def test_another_project_is_a_matter_of_the_key(rig: ModelArtsRig) -> None:
    """A key of another project is told to be the wrong one."""
    provider = rig.make(project_id="f" * 32)
    with pytest.raises(TokenRefused, match=r"ModelArts\.0210"):
        provider.standing()


def test_flavor_that_is_refused(rig: ModelArtsRig, book: LeaseBook, ticket: Path) -> None:
    """A flavour that vanished between choice and launch is a refusal; one that left the settings is too."""
    wanted = terms(rig)
    rig.simulator.flavors = rig.simulator.flavors[1:]
    with pytest.raises(LaunchRefused, match=r"ModelArts\.2763"):
        rent(book, rig.provider, wanted, ticket)
    gone = wanted.offer.model_copy(update={"offer_id": "modelarts.vm.gpu.old"})
    with pytest.raises(LaunchRefused, match=r"whetstone\.toml"):
        rent(book, rig.provider, Terms("plates", RUN, gone, 0.0, wanted.deadline), ticket)


def test_logs_are_the_last_lines(rig: ModelArtsRig, book: LeaseBook, ticket: Path) -> None:
    """Of a long log the last lines are returned; before there is one, nothing."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    assert rig.provider.logs(lease.machine) == ""
    for number in range(500):
        rig.says(lease.machine, f"step {number}")
    lines = rig.provider.logs(lease.machine).splitlines()
    assert (lines[0], lines[-1]) == ("step 300", "step 499")


@pytest.mark.parametrize("phase", ["Creating", "Pending", "Terminating", "", "NewPhase"])
def test_phases_nobody_knows_count_as_running(phase: str) -> None:
    """Only a phase known to be an end is one."""
    assert Job("1", "ws-plant7-1", phase).runs


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (0, "ReadTimeout", "away"),
        (429, "APIGW.0308", "away"),
        (503, "ModelArts.4700", "away"),
        (401, "APIGW.0301", "token"),
        (403, "ModelArts.0206", "token"),
        (404, "ModelArts.2786", "token"),
        (403, "ModelArts.4116", "refused"),
        (400, "ModelArts.0118", "refused"),
        (400, "ModelArts.2763", "refused"),
        (400, "ModelArts.2775", "gone"),
        (404, "ModelArts.2836", "away"),
        (404, "APIGW.0101", "away"),
        (409, "ModelArts.2796", "conflict"),
        (400, "ModelArts.2751", "conflict"),
    ],
)
def test_refusals(status: int, code: str, kind: Kind) -> None:
    """Each answer is taken for what it means."""
    assert kind_of(Refusal(status, code)) == kind
