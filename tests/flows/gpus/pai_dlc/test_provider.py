"""See what is asked of PAI-DLC, and what its answers are taken for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.leases import LeaseBook, Terms, end_machine, rent
from flows.gpus.pai_dlc import calls
from flows.gpus.pai_dlc.rules import Job, kind_of, spot_limit
from flows.gpus.pai_dlc.simulator import SPECS, WORKSPACE, PaiDlcSimulator
from flows.gpus.sdk.calls import Kind, Refusal
from flows.gpus.sdk.keys import KeyPair
from flows.gpus.settings import ForeignMoney, PaiDlcSection, PricedSpec
from tests.flows.gpus.contract import RUN, terms, write_ticket
from tests.flows.gpus.pai_dlc.rig import SETTINGS, PaiDlcRig
from tests.flows.gpus.sdk.rig import KEY, Clock


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[PaiDlcRig]:
    """Return a rig."""
    clock = Clock()
    with PaiDlcSimulator(KEY, clock) as simulator:
        yield PaiDlcRig(tmp_path, simulator, clock)


@pytest.fixture
def book(rig: PaiDlcRig, tmp_path: Path) -> Iterator[LeaseBook]:
    """Return a lease book by the seller's clock."""
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    yield LeaseBook(database, rig.now)
    database.close()


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    """Return a ticket."""
    return write_ticket(tmp_path / "ticket.json")


def asked_for(rig: PaiDlcRig, lease: Lease) -> dict[str, Any]:
    """Return the document that made a lease's job."""
    return rig.simulator.jobs[lease.machine].asked


def test_job_is_asked_for_in_full(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """A job is private, runs our command once on what was offered, and no longer than its lease."""
    lease = rent(book, rig.provider, terms(rig, timedelta(minutes=90, seconds=1)), ticket)
    asked = asked_for(rig, lease)
    (role,) = asked["JobSpecs"]
    assert asked["Accessibility"] == "PRIVATE"
    assert asked["WorkspaceId"] == WORKSPACE
    assert asked["UserCommand"] == "python -m trainer rented"
    assert asked["JobMaxRunningTimeMinutes"] == 91
    assert "ResourceId" not in asked
    assert {name: value for name, value in role.items() if value != []} == {
        "EcsSpec": "ecs.gn7i-c8g1.2xlarge", "Image": "registry.example/whetstone/trainer:0.1.0",
        "PodCount": 1, "RestartPolicy": "Never", "Type": "Worker",
    }  # fmt: skip


def test_spot_job_has_a_limit(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """A spot job is bid for by the run's cap, in yuan a minute, and never above the price on demand."""
    offer = rig.provider.offers()[0]
    for number, (cap, limit) in enumerate(((0.9, 0.105), (0.0, 0.2333), (50.0, 0.2333))):
        wanted = Terms(
            "plates", f"run-{number:016x}", offer, cap, rig.now() + timedelta(hours=2), True, offer.spot_price
        )
        lease = rent(book, rig.provider, wanted, ticket)
        (role,) = asked_for(rig, lease)["JobSpecs"]
        assert role["SpotSpec"] == {"SpotStrategy": "SpotWithPriceLimit", "SpotPriceLimit": limit}


def test_limit_of_an_account_in_another_currency(rig: PaiDlcRig) -> None:
    """Where money is not yuan, the limit is a share of the price, which has no currency."""
    offer = rig.provider.offers()[0]
    now = rig.now()
    lease = Lease(
        task_id="plates", lease_id="lease-0011223344556677", run_id=RUN, provider="aliyun", offer=offer,
        price_cap=0.75, deadline=now, state="recorded", recorded_at=now, spot=True,
    )  # fmt: skip
    priced = PricedSpec(spec=offer.offer_id, gpu="A10", gpu_memory_mib=23028, price=2.0)
    limit = spot_limit(lease, priced, ForeignMoney(currency="USD", per_dollar=1.0))
    assert limit == {"spot_strategy": "SpotWithPriceLimit", "spot_discount_limit": 0.37}


def test_job_out_of_a_quota(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """With a quota there is no spot, and a job takes as much of it as the offered machine has."""
    provider = rig.make(resource="quota1x")
    assert [offer.spot_price for offer in provider.offers()] == [None, None]
    offer = provider.offers()[0]
    wanted = Terms("plates", RUN, offer, 0.0, rig.now() + timedelta(hours=2), price=offer.on_demand_price)
    asked = asked_for(rig, rent(book, provider, wanted, ticket))
    (role,) = asked["JobSpecs"]
    assert asked["ResourceId"] == "quota1x"
    assert role["ResourceConfig"] == {"CPU": "8", "GPU": "1", "Memory": "30Gi"}
    assert "EcsSpec" not in role


def test_offers_are_what_is_priced_and_there(rig: PaiDlcRig) -> None:
    """Prices are the settings' in dollars, spot by the discount of the moment; what is not listed is left out."""
    a10, t4 = rig.provider.offers()
    assert (a10.gpu, a10.on_demand_price, a10.spot_price) == ("A10", 2.0, pytest.approx(0.6))
    assert (a10.cpu_count, a10.memory_mib, a10.region) == (8, 30 * 1024, "cn-hangzhou")
    assert (t4.gpu, t4.on_demand_price, t4.spot_price) == ("T4", pytest.approx(1.2), None)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"NonProtectSpotDiscount": 0.0}, (2.0, None)),
        ({"NonProtectSpotDiscount": None}, (2.0, None)),
        ({"NonProtectSpotDiscount": 30}, (2.0, None)),
        ({"SpotStockStatus": "ClosedWithStock"}, (2.0, None)),
        ({"IsAvailable": False}, (None, 0.6)),
        ({"IsAvailable": False, "SpotStockStatus": "NoStock"}, None),
    ],
)
def test_what_is_not_told_is_not_free(
    rig: PaiDlcRig, changed: dict[str, Any], expected: tuple[float | None, float | None] | None
) -> None:
    """A discount of nothing, of none, or one that cannot be a share is unknown; what is sold out is no offer."""
    rig.simulator.specs = ({**SPECS[0], **changed},)
    offers: tuple[GpuOffer, ...] = rig.provider.offers()
    if expected is None:
        assert offers == ()
    else:
        assert [(one.on_demand_price, one.spot_price) for one in offers] == [pytest.approx(expected)]


def test_every_page_is_read(rig: PaiDlcRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs and kinds of machines on later pages are seen as well."""
    monkeypatch.setattr(calls, "PAGE", 2)
    for number in range(5):
        rig.make_foreign(f"ws-plant7-{number:016x}")
        rig.advance(timedelta(seconds=1))
    rig.simulator.specs = (*({**SPECS[0], "InstanceType": f"other-{one}"} for one in range(3)), SPECS[0])
    assert [one.lease_id for one in rig.provider.list_ours()] == [f"lease-{one:016x}" for one in range(5)]
    assert [one.offer_id for one in rig.provider.offers()] == ["ecs.gn7i-c8g1.2xlarge"]


def test_old_jobs_are_listed(rig: PaiDlcRig) -> None:
    """A job that runs for a month is found, though the seller's list shows a week unless asked for more."""
    rig.make_foreign("ws-plant7-0123456789abcdef")
    rig.advance(timedelta(days=30))
    assert [one.lease_id for one in rig.provider.list_ours()] == ["lease-0123456789abcdef"]


def test_machine_kept_after_its_program(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """A job that ended and keeps its machine has ended for us, costs, is listed, and is stopped."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.simulator.change(lease.machine, "FailedReserving")
    assert rig.provider.status(lease.machine).state == "ended"
    assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]
    end_machine(rig.provider, lease.machine)
    assert rig.provider.list_ours() == ()


def test_job_that_ends_between_look_and_stop(
    rig: PaiDlcRig, book: LeaseBook, ticket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that comes too late is no error; one that is refused while the job runs on is."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    stop, refused = calls.PaiCalls.stop, []

    def late(self: calls.PaiCalls, job_id: str) -> None:
        rig.simulator.change(job_id, refused[-1])
        stop(self, job_id)

    monkeypatch.setattr(calls.PaiCalls, "stop", late)
    refused.append("Migrating")
    with pytest.raises(ProviderAway):
        rig.provider.terminate(lease.machine)
    refused.append("Succeeded")
    rig.provider.terminate(lease.machine)


def test_endpoint_is_the_regions() -> None:
    """Without an address of its own the section means the region's public endpoint, over TLS."""
    section = PaiDlcSection.model_validate(SETTINGS)
    client = calls._client(section, KeyPair("AKID", "s3cret"))
    assert client._endpoint == "pai-dlc.cn-hangzhou.aliyuncs.com"
    assert client._protocol in (None, "https")


def test_strangers_job_is_not_stopped(rig: PaiDlcRig) -> None:
    """Even by its own id a job without our name is not stopped."""
    (person, *_) = rig.foreign()
    rig.provider.terminate(person)
    assert rig.simulator.jobs[person].state == "Running"


def test_spec_that_left_the_settings(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """An offer whose price is no longer written down is refused before anything is asked."""
    wanted = terms(rig)
    gone = wanted.offer.model_copy(update={"offer_id": "ecs.gn5-old"})
    with pytest.raises(LaunchRefused):
        rent(book, rig.provider, Terms("plates", RUN, gone, 0.0, wanted.deadline), ticket)
    assert not any(rig.simulator.creates(one) for one in rig.simulator.seen)


def test_refused_by_the_seller(rig: PaiDlcRig, book: LeaseBook, ticket: Path) -> None:
    """What the seller refuses in the settings is told with the seller's words."""
    provider = rig.make(specs=[{**rig_spec(), "spec": "ecs.gn6i-c4g1.xlarge"}], resource="")
    wanted = terms(rig)
    offer = wanted.offer.model_copy(update={"offer_id": "ecs.gn6i-c4g1.xlarge"})
    rig.simulator.specs = SPECS[:1]
    with pytest.raises(LaunchRefused, match="is not supported"):
        rent(book, provider, Terms("plates", RUN, offer, 0.0, wanted.deadline), ticket)


def rig_spec() -> dict[str, Any]:
    """Return what the settings say of a spec."""
    return {"gpu": "T4", "gpu_memory_mib": 15360, "price": 8.4}


@pytest.mark.parametrize(
    "status", ["Creating", "Queuing", "Bidding", "Restarting", "Stopping", "", "NewState"]
)
def test_states_nobody_knows_count_as_running(status: str) -> None:
    """Only a state known to be an end is one."""
    assert Job("dlc1", "ws-plant7-1", status).runs


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (0, "RetryError", "away"),
        (429, "Throttling", "away"),
        (400, "Throttling.User", "away"),
        (503, "ServiceUnavailable", "away"),
        (500, "InternalError", "away"),
        (404, "InvalidAccessKeyId.NotFound", "token"),
        (400, "SignatureDoesNotMatch", "token"),
        (400, "InvalidSecurityToken.Expired", "token"),
        (403, "NoPermission", "token"),
        (403, "OperationDenied.NoStock", "refused"),
        (403, "QuotaExceeded", "refused"),
        (400, "InvalidParameter", "refused"),
        (404, "JobNotFound", "gone"),
        (404, "InvalidApi.NotFound", "away"),
        (404, "None", "away"),
        (409, "Conflict", "conflict"),
    ],
)
def test_refusals(status: int, code: str, kind: Kind) -> None:
    """Each answer is taken for what it means."""
    assert kind_of(Refusal(status, code)) == kind
