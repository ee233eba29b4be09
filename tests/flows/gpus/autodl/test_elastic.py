"""Rent AutoDL's elastic deployments: nothing refills, nothing waits for a GPU for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.gpus.autodl.client import Method
from flows.gpus.autodl.elastic import AutodlElasticProvider
from flows.gpus.autodl.errors import CallRefused
from flows.gpus.autodl.simulated_elastic import Container
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, give_back, rent
from tests.flows.gpus.autodl.rigs import ElasticRig, elastic_section, pace_of
from tests.flows.gpus.contract import INSTALLATION, terms
from tests.helpers import wait_until

ROOT = "/api/v1/dev/deployment"


@pytest.fixture
def rig(tmp_path: Path, simulator: AutodlSimulator) -> ElasticRig:
    """Return the adapter before the simulated account."""
    return ElasticRig(tmp_path, simulator)


def orders(simulator: AutodlSimulator) -> list[tuple[str, str]]:
    """Return what was ordered, in turn."""
    wanted = [("POST", ROOT), ("PUT", f"{ROOT}/operate"), ("DELETE", ROOT)]
    return [(one.method, one.path) for one in simulator.seen if (one.method, one.path) in wanted]


def running(simulator: AutodlSimulator, deployment: str) -> int:
    """Return how many containers of a deployment have not ended."""
    simulator.elastic.machines()
    return sum(one.ended_at is None for one in simulator.elastic.deployments[deployment].containers)


def test_one_job_with_one_container(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """A lease is a Job of one container, on no dearer machine than agreed, in the offer's region."""
    rent(book, rig.provider, terms(rig), ticket)
    (created,) = (
        json.loads(one.body) for one in rig.simulator.seen if (one.method, one.path) == ("POST", ROOT)
    )
    assert (created["deployment_type"], created["replica_num"], created["parallelism_num"]) == ("Job", 1, 1)
    assert created["reuse_container"] is False
    template = created["container_template"]
    assert (template["dc_list"], template["gpu_name_set"], template["gpu_num"]) == (
        ["westDC2"],
        ["RTX 4090"],
        1,
    )
    assert (template["price_from"], template["price_to"]) == (10, 1980)
    assert not {"&&", "||"} & set(template["cmd"].split()), "AutoDL cannot stop a Job that has both"
    assert " timeout --kill-after=60 " in template["cmd"]


def test_nothing_refills(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """A Job whose container ended starts none; a ReplicaSet, which we never ask for, would."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    trap = rig.simulator.elastic.add("a service", kind="ReplicaSet")
    rig.simulator.elastic.end_program(trap.uuid)
    rig.finish(lease.machine)
    assert running(rig.simulator, trap.uuid) == 1, "the trap is there"
    assert running(rig.simulator, lease.machine) == 0
    assert rig.provider.status(lease.machine).state == "ended"


def test_first_end_counts(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """Should AutoDL start a container again, the machine has ended all the same, and is ended for good."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.finish(lease.machine)
    deployment = rig.simulator.elastic.deployments[lease.machine]
    deployment.replicas = 2
    deployment.containers.append(Container("second", rig.now()))
    assert running(rig.simulator, lease.machine) == 1
    assert rig.provider.status(lease.machine).state == "ended"
    give_back(book, rig.provider, lease, "its machine had ended")
    assert rig.simulator.machines == []


def test_what_has_no_idle_gpu_is_not_offered(rig: ElasticRig) -> None:
    """The stock decides: 8 idle 4090 are an offer, no idle H20 is none; prices are dollars, at most."""
    (offer,) = rig.provider.offers()
    assert (offer.offer_id, offer.region, offer.gpu) == ("westDC2/RTX 4090x1", "westDC2", "RTX4090")
    assert offer.on_demand_price == pytest.approx(1.98 / 7)
    assert offer.spot_price is None
    rig.simulator.elastic.stock["westDC2"] = {"RTX 4090": 0, "H20": 3}
    assert [one.gpu for one in rig.provider.offers()] == ["H20"]
    assert not rig.provider.traits.priced
    assert rig.provider.traits.ending.kind == "exit-ends"


def test_offer_that_vanished_creates_nothing(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """A GPU that went between choice and launch is a refusal, before anything is made."""
    wanted = terms(rig)
    rig.simulator.elastic.stock["westDC2"]["RTX 4090"] = 0
    with pytest.raises(LaunchRefused, match="no idle GPU"):
        rent(book, rig.provider, wanted, ticket)
    assert orders(rig.simulator) == []


def test_deployment_that_waits_for_a_gpu_is_withdrawn(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """AutoDL refuses no deployment it cannot place: left alone it would start, and cost, at any later time."""
    wanted = terms(rig)
    rig.simulator.elastic.prices["RTX 4090"] = 2500
    with pytest.raises(LaunchRefused, match="no container within"):
        rent(book, rig.provider, wanted, ticket)
    assert orders(rig.simulator) == [("POST", ROOT), ("PUT", f"{ROOT}/operate"), ("DELETE", ROOT)]
    assert rig.simulator.elastic.deployments == {}


def test_uncertified_account_may_look_and_not_rent(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """Without an enterprise's certification the stock is told and everything else refused, in AutoDL's words."""
    wanted = terms(rig)
    rig.simulator.elastic.enterprise = False
    assert rig.provider.offers()
    with pytest.raises(TokenRefused, match="无当前资源访问权限") as caught:
        rent(book, rig.provider, wanted, ticket)
    assert "enterprise" in caught.value.diagnostics()
    assert orders(rig.simulator) == []


def test_new_one_is_not_gone_because_the_list_lags(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """Whether a deployment is there is told by a list alone; while that may lag, a new one counts as running."""
    rig.arm("lag")
    lease = rent(book, rig.provider, terms(rig), ticket)
    assert rig.provider.status(lease.machine).state == "running"
    assert rig.fired("lag") > 0


def test_one_stopped_in_the_console_is_deleted_too(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """A stop that is refused since it has stopped is no end of it."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.take_away(lease.machine)
    give_back(book, rig.provider, lease, "done")
    assert rig.simulator.elastic.deployments == {}


def test_steps_of_the_container_are_its_log(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """AutoDL keeps no output; what its container went through can be read."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.advance(timedelta(seconds=1))
    words = [line.split()[-1] for line in rig.provider.logs(lease.machine).splitlines()]
    assert words == ["creating", "created", "starting", "oss_merged", "running"]


def test_every_region_is_asked_where_none_is_named(rig: ElasticRig, tmp_path: Path) -> None:
    """Without regions in the settings each of the documentation's is asked for its stock."""
    rig.simulator.elastic.stock["beijingDC4"] = {"RTX 4090": 1}
    section = elastic_section(rig.simulator, regions=())
    wide = AutodlElasticProvider("autodl-esd", section, INSTALLATION, tmp_path, pace=pace_of(rig.simulator))
    assert {one.region for one in wide.offers()} == {"westDC2", "beijingDC4"}


def test_region_that_is_refused_costs_its_own_offers_alone(
    rig: ElasticRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign AutoDL gave up does not take the others' offers along; where it refuses all, it says so."""
    section = elastic_section(rig.simulator, regions=("oldDC1", "westDC2"))
    monkeypatch.setattr(rig.provider, "_section", section)
    ask, refused = rig.provider._client.send, {"oldDC1"}

    def send(method: Method, path: str, body: Mapping[str, Any]) -> Any:
        if body.get("region_sign") in refused:
            raise CallRefused(expected="Success", got="BadRequest: no such region", where=path)
        return ask(method, path, body)

    monkeypatch.setattr(rig.provider._client, "send", send)
    assert [one.region for one in rig.provider.offers()] == ["westDC2"]
    refused.add("westDC2")
    with pytest.raises(CallRefused, match="no such region"):
        rig.provider.offers()


@pytest.mark.parametrize("answer", [None, {}, {"deployment_uuid": None}, {"deployment_uuid": ""}, "dep"])
def test_creation_without_a_name_is_no_machine(
    rig: ElasticRig, book: LeaseBook, ticket: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """An answer that names no deployment is as one that was lost: what was made is found in the list."""
    wanted, ask = terms(rig), rig.provider._client.send

    def send(method: Method, path: str, body: Mapping[str, Any]) -> Any:
        told = ask(method, path, body)
        return answer if (method, path) == ("POST", ROOT) else told

    with monkeypatch.context() as patch:
        patch.setattr(rig.provider._client, "send", send)
        with pytest.raises(ProviderAway, match=r"name of what was made|uuid of a deployment"):
            rent(book, rig.provider, wanted, ticket)
    (made,) = rig.provider.list_ours()
    assert rig.simulator.elastic.deployments.keys() == {made.machine}


def test_container_ends_with_its_lease(rig: ElasticRig, book: LeaseBook, ticket: Path) -> None:
    """With all of ours dead a container ends at its lease's deadline, and nothing takes its place."""
    lease = rent(book, rig.provider, terms(rig, timedelta(hours=1)), ticket)
    rig.advance(timedelta(hours=1, minutes=1))
    wait_until(lambda: not any(one.costs for one in rig.simulator.machines), 10, "the container to end")
    assert running(rig.simulator, lease.machine) == 0
