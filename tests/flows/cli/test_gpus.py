"""Look after machines from the command line: what is offered, rented, owed, watched, and ended."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.cli import main
from flows.context import open_context
from flows.gpus import lenders, providers
from flows.gpus.base import Ending, GpuProvider, Machine
from flows.gpus.heartbeats import Me, beat
from flows.gpus.leases import LeaseBook, Terms, rent
from flows.gpus.memory import MemoryProvider
from flows.gpus.reaper import Round
from flows.gpus.settings import SimulatedSection
from flows.settings import MoneySettings, Settings, load_settings, write_settings
from flows.up.embedded import prepare

NAME = "cloud"


def offer(name: str, price: float | None, spot: float | None = None) -> GpuOffer:
    """Return an offer."""
    return GpuOffer(
        provider=NAME, offer_id=name, gpu="T4", gpu_count=1, gpu_memory_mib=16384, on_demand_price=price,
        spot_price=spot, region="eu-1", price_source="a test", priced_at=utc_now() - timedelta(minutes=3),
    )  # fmt: skip


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> MemoryProvider:
    """Return a provider that every command finds, whose machines nothing ends but us."""
    made = MemoryProvider(offer("dear", 2.0, 0.5), offer("cheap", 1.0), offer("unknown", None), name=NAME)
    made.ending = Ending("none", "nobody ends it")
    made.balance = 12.5

    def known(folder: Path, settings: Settings) -> tuple[dict[str, GpuProvider], dict[str, str]]:
        return {NAME: made}, {}

    monkeypatch.setattr(lenders, "each_apart", known)
    monkeypatch.setattr(providers, "each_apart", known)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an installation without a task."""
    made = tmp_path / "installation"
    made.mkdir(mode=0o700)
    prepare(made)
    sections = {NAME: SimulatedSection(kind="simulated")}
    money = MoneySettings(per_month=50.0)
    changed = load_settings(made).model_copy(update={"installation": "plant7", "providers": sections, "money": money})
    write_settings(made, changed)
    return made


def run(folder: Path, *arguments: str) -> int:
    """Run a command on the installation."""
    return main(["gpus", *arguments, "--folder", str(folder)])


def rented(folder: Path, cloud: MemoryProvider) -> Lease:
    """Rent one machine for two hours."""
    with open_context(folder) as ctx:
        terms = Terms("plates", "run-0123456789abcdef", offer("cheap", 1.0), 0.0, utc_now() + timedelta(hours=2),
                      price=1.0)  # fmt: skip
        return rent(LeaseBook(ctx.database), cloud, terms, Path("ticket.json"))


def test_offers_are_listed_cheapest_first(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """With source and age of each price; one of unknown price comes last; who is away is said."""
    assert run(folder, "offers", "--json") == 0
    assert [one["offer_id"] for one in json.loads(capsys.readouterr().out)] == ["dear", "cheap", "unknown"]
    assert run(folder, "offers", "--limit", "2") == 0
    told = capsys.readouterr().out
    assert "1 more" in told
    assert "$0.500" in told
    cloud.is_away = True
    assert run(folder, "offers") == 0
    told = capsys.readouterr().out
    assert "nothing is offered" in told
    assert f"{NAME}: " in told
    assert run(folder, "offers", "--provider", "other") == 2
    assert "one of the providers ['cloud']" in capsys.readouterr().err.replace("\n", " ")


def test_machines_are_listed_with_and_without_a_lease(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stray is named: nothing else would tell that it costs money."""
    assert run(folder, "list") == 0
    assert "no machine is rented" in capsys.readouterr().out
    lease = rented(folder, cloud)
    cloud.machines["stray"] = Machine("stray", "lease-unknown")
    assert run(folder, "list", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["lease_id"] for one in told["leases"]] == [lease.lease_id]
    assert told["strays"] == [{"machine": "stray", "lease_id": "lease-unknown"}]
    assert run(folder, "list") == 0
    assert "no live lease owns stray" in capsys.readouterr().out.replace("\n", " ")


def test_a_machine_is_ended_by_its_lease(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the beginning of the lease's name; the reason is kept; one that does not live is refused with those that do."""
    lease = rented(folder, cloud)
    assert run(folder, "end", "lease-nothing") == 2
    assert lease.lease_id in capsys.readouterr().err.replace("\n", "")
    assert run(folder, "end", lease.lease_id[:12], "--reason", "too dear") == 0
    told = capsys.readouterr().out
    assert f"ended {lease.lease_id}" in told
    assert f"{lease.run_id} rents another one if it still goes on" in told
    assert cloud.machines == {}
    with open_context(folder) as ctx:
        ended = LeaseBook(ctx.database).find(lease.lease_id)
    assert ended is not None
    assert (ended.state, ended.end_reason) == ("ended", "too dear")
    assert run(folder, "end", lease.lease_id) == 2


def test_the_month_is_told_against_its_bound(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is spent, and what machines that run may still cost."""
    rented(folder, cloud)
    assert run(folder, "cost", "--json") == 0
    month = json.loads(capsys.readouterr().out)["month"]
    assert month["cap"] == 50.0
    assert month["reserved"] == pytest.approx(2.0, abs=0.1)
    assert month["spent"] < 0.1
    assert run(folder, "cost") == 0
    assert "of $50.00" in capsys.readouterr().out


def test_a_check_says_who_ends_a_machine_and_what_is_wrong(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """Token, balance, ending, reapers; its status tells a script; both ways out of a refusal are named."""
    assert run(folder, "check", "--json") == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["token"], one["balance"], one["launch"], one["hosts"]) == ("good", 12.5, "refused", [])
    assert any("worst_cost = " in line and "reapers on two hosts" in line for line in one["lines"])
    with open_context(folder) as ctx:
        for me in (Me("here", "1"), Me("there", "2")):
            beat(ctx.database, me, Round(NAME), utc_now())
    assert run(folder, "check", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["launch"], one["hosts"]) == ("possible", ["here", "there"])
    cloud.token_refusal = "401"
    assert run(folder, "check") == 1
    assert "401" in capsys.readouterr().out
    assert run(folder, "check", "--json") == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["token"], one["launch"]) == ("refused", "refused")
    assert len(one["lines"]) == len({line[-40:] for line in one["lines"]}), "nothing is told twice"


def test_a_check_asks_all_that_a_launch_would_be_refused_for(
    folder: Path, cloud: MemoryProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that machines elsewhere cannot reach, and a provider that offers nothing."""
    cloud.ending, cloud.elsewhere = Ending("server-deadline", "the seller ends it"), True
    assert run(folder, "check", "--json") == 1
    (one,) = json.loads(capsys.readouterr().out)
    assert one["launch"] == "refused"
    assert any("127.0.0.1 is the machine itself" in line for line in one["lines"])
    cloud.elsewhere = False
    assert run(folder, "check") == 0
    cloud._offers = ()
    assert run(folder, "check") == 1
    assert "nothing is offered" in capsys.readouterr().out
