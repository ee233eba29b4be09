"""Rent AutoDL's container instances Pro: stopped is not released, and a price is told only afterwards."""

from __future__ import annotations

import logging
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fleet_contracts.training import Lease
from flows.errors import SettingsError
from flows.gpus.autodl.pro import AutodlProProvider
from flows.gpus.autodl.simulator import AutodlSimulator
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import LeaseBook, give_back, rent
from flows.gpus.reaper import reap
from flows.gpus.settings import ForeignMoney
from flows.gpus.starting import UNTIL
from tests.flows.gpus.autodl.rigs import TOKEN, ProRig, commands_in, pace_of, pro_section
from tests.flows.gpus.contract import INSTALLATION, RUN, terms
from tests.helpers import wait_until

ROOT = "/api/v1/dev/instance/pro"


@pytest.fixture
def rig(tmp_path: Path, simulator: AutodlSimulator) -> ProRig:
    """Return the adapter before the simulated account."""
    return ProRig(tmp_path, simulator)


def again(rig: ProRig, folder: Path, **changes: object) -> AutodlProProvider:
    """Return the adapter as another process of ours has it."""
    section = pro_section(rig.simulator, **changes)
    return AutodlProProvider("autodl", section, INSTALLATION, folder, pace=pace_of(rig.simulator))


def orders(simulator: AutodlSimulator) -> list[str]:
    """Return what was ordered, in turn."""
    return [one.path.rpartition("/")[2] for one in simulator.seen if one.path.rpartition("/")[2] in
            ("create", "power_off", "release")]  # fmt: skip


def test_stopped_is_not_released(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """An instance that powered itself off has ended and costs nothing, and is ours until we release it."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.finish(lease.machine)
    wait_until(lambda: rig.provider.status(lease.machine).state == "ended", 10, "the power-off")
    assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]
    assert rig.provider.status(lease.machine).detail in ("shutting_down", "shutdown")
    book.end(lease.lease_id, "its machine had ended")
    wait_until(lambda: bool(reap(book, [rig.provider])), 10, "the reaper to release it")
    assert orders(rig.simulator) == ["create", "release"], "what has stopped is not stopped again"
    assert rig.simulator.machines == []


def test_running_one_is_stopped_first(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """Ending a running instance powers it off, waits, releases it and finds it in no list."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.provider.terminate(lease.machine)
    assert orders(rig.simulator) == ["create", "power_off", "release"]
    assert rig.simulator.machines == []
    assert rig.simulator.seen[-1].path == f"{ROOT}/list"


def test_one_that_will_not_stop_is_not_called_ended(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """While it stops it costs: the lease lives on, and the next call releases it without a second order."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.simulator.pro.stops = timedelta(minutes=5)
    rig.hurry()
    with pytest.raises(ProviderAway, match="shutting_down"):
        give_back(book, rig.provider, lease, "done")
    assert [one.lease_id for one in book.live()] == [lease.lease_id]
    assert rig.provider.status(lease.machine).state == "running"
    rig.advance(timedelta(minutes=6))
    give_back(book, rig.provider, lease, "done")
    assert orders(rig.simulator) == ["create", "power_off", "release"]
    assert book.live() == ()


def test_dearer_than_agreed_is_ended_at_once(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """A price above the agreed one, told after creation, ends the instance; the refusal names both."""
    rig.simulator.pro.prices["v-48g"] = 3980
    with pytest.raises(LaunchRefused) as caught:
        rent(book, rig.provider, terms(rig), ticket)
    assert "2.981 yuan" in caught.value.expected
    assert "3.980 yuan" in caught.value.got
    assert rig.simulator.machines == []
    assert book.live() == ()


def test_price_that_is_never_told_is_refused(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """Nothing runs on at a price nobody knows."""
    rig.simulator.pro.tells_price = False
    rig.hurry()
    with pytest.raises(LaunchRefused, match="no price"):
        rent(book, rig.provider, terms(rig), ticket)
    assert rig.simulator.machines == []


def test_dearer_one_whose_launch_was_unheard_is_found_out(
    rig: ProRig, book: LeaseBook, ticket: Path, tmp_path: Path
) -> None:
    """Where the answer to a launch was lost, the price is looked at by whoever asks how the machine is."""
    wanted = terms(rig)
    rig.simulator.pro.prices["v-48g"] = 3980
    rig.arm("lost-answer")
    with pytest.raises(ProviderAway):
        rent(book, rig.provider, wanted, ticket)
    assert rig.fired("lost-answer") == 1
    rig.advance(rig.provider.settles)
    lease = rent(book, rig.provider, wanted, ticket)
    found = again(rig, tmp_path).status(lease.machine)
    assert found.state == "ended"
    assert "3.980 yuan" in found.detail
    rig.simulator.pro.prices["v-48g"] = 2980
    rig.simulator.pro.instances[lease.machine].price = 2980
    assert again(rig, tmp_path).status(lease.machine).state == "running"


def test_balance_is_in_thousandths(rig: ProRig) -> None:
    """29290 is 29.29 yuan, of which what is held back is not free."""
    rig.simulator.assets, rig.simulator.blocked = 29290, 1290
    standing = rig.provider.standing()
    assert standing.balance == pytest.approx(28.0 / 7.0)
    assert standing.expires_at is None


def test_too_little_money_starts_nothing(rig: ProRig, book: LeaseBook, ticket: Path, tmp_path: Path) -> None:
    """Below the least balance a launch is refused before anything is created."""
    rig.simulator.assets = 29290
    poor = again(rig, tmp_path, least_balance=5.0)
    with pytest.raises(LaunchRefused, match=r"\$4.18 \(29.290 yuan\)"):
        rent(book, poor, terms(rig), ticket)
    assert "create" not in orders(rig.simulator)


def test_uncertified_account_is_told_apart_from_a_wrong_token(
    rig: ProRig, book: LeaseBook, ticket: Path
) -> None:
    """Without a real name nothing can be created; the message says so, and not to renew the token."""
    rig.simulator.pro.real_name = False
    with pytest.raises(TokenRefused) as caught:
        rent(book, rig.provider, terms(rig), ticket)
    assert "TORealName" in caught.value.got
    assert "certification" in caught.value.diagnostics()


def test_token_goes_bare_and_in_one_header_alone(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """Every request carries the token as it is, without 'Bearer', and nowhere else."""
    lease = rent(book, rig.provider, terms(rig), ticket)
    rig.provider.terminate(lease.machine)
    assert {one.authorization for one in rig.simulator.seen} == {TOKEN}
    assert TOKEN not in repr(rig.simulator.seen)


@pytest.mark.parametrize("pasted", [f"Bearer {TOKEN}", f"{TOKEN}\nsecond line", f'"{TOKEN}" ', f"{TOKEN}é"])
def test_more_than_a_token_is_never_sent(rig: ProRig, tmp_path: Path, pasted: str) -> None:
    """What was pasted beside the token is refused before it is sent, and is not quoted."""
    (tmp_path / "token").write_text(pasted)
    with pytest.raises(TokenRefused) as caught:
        rig.provider.list_ours()
    assert TOKEN not in f"{caught.value} {caught.value.diagnostics()} {caught.value.__cause__!r}"
    assert rig.simulator.seen == []


def test_passwords_of_the_snapshot_are_dropped(
    rig: ProRig, book: LeaseBook, ticket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The price comes with the instance's passwords; none of them is logged or kept."""
    caplog.set_level(logging.DEBUG)
    lease = rent(book, rig.provider, terms(rig), ticket)
    assert any(one.path == f"{ROOT}/snapshot" for one in rig.simulator.seen)
    instance = rig.simulator.pro.instances[lease.machine]
    kept = f"{caplog.text} {vars(rig.provider)} {lease} {rig.provider.status(lease.machine)}"
    assert instance.root_password not in kept
    assert instance.jupyter_token not in kept


def test_ours_are_found_on_every_page(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """An account with hundreds of instances is read to its last page."""
    for number in range(250):
        rig.simulator.pro.add(f"notebook {number}")
    lease = rent(book, rig.provider, terms(rig), ticket)
    assert [one.machine for one in rig.provider.list_ours()] == [lease.machine]


def test_offers_are_what_a_person_wrote_down(rig: ProRig, tmp_path: Path) -> None:
    """Prices are dollars by the rate given, as old as the settings file; there is no spot price."""
    settings = tmp_path / "whetstone.toml"
    settings.touch()
    written = datetime(2026, 11, 1, tzinfo=timezone.utc)
    os.utime(settings, (written.timestamp(), written.timestamp()))
    first, _ = rig.provider.offers()
    assert (first.offer_id, first.gpu, first.on_demand_price) == (
        "v-48gx1",
        "RTX4090",
        pytest.approx(2.98 / 7),
    )
    assert (first.spot_price, first.priced_at) == (None, written)
    assert not rig.provider.traits.priced
    assert rig.provider.traits.ending.kind == "guest-power-off"


def test_offer_that_is_no_longer_in_the_settings(rig: ProRig, ticket: Path, book: LeaseBook) -> None:
    """A lease for something the settings do not name is refused before any call."""
    wanted = terms(rig)
    offer = wanted.offer.model_copy(update={"offer_id": "a100x8"})
    lease = Lease(
        task_id="plates", lease_id="lease-00000000000000aa", run_id=RUN, provider="autodl", offer=offer,
        price_cap=0.0, deadline=wanted.deadline, state="recorded", recorded_at=rig.now(),
    )  # fmt: skip
    with pytest.raises(LaunchRefused, match="a100x8"):
        rig.provider.launch(lease, ticket)
    assert rig.simulator.seen == []


def test_other_currency_is_refused(rig: ProRig, tmp_path: Path) -> None:
    """AutoDL bills in yuan; settings that count in something else are wrong."""
    with pytest.raises(SettingsError, match="CNY"):
        again(rig, tmp_path, money=ForeignMoney(currency="EUR", per_dollar=0.9))


def test_instance_powers_itself_off(rig: ProRig, book: LeaseBook, ticket: Path) -> None:
    """The start command ends the GPU's bill whatever becomes of the trainer, also at its end's time."""
    lease = rent(book, rig.provider, terms(rig, timedelta(hours=1)), ticket)
    (command,) = commands_in(rig.simulator)
    assert command.startswith("(sleep ")
    assert command.endswith("; /usr/bin/shutdown")
    assert rig.environment(lease.machine)[UNTIL]
    rig.advance(timedelta(hours=1, seconds=1))
    assert [one.costs for one in rig.simulator.machines] == [False]
