"""Forbid launches that would be in vain or could cost without end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer
from flows.context import Context
from flows.gpus.base import Ending
from flows.gpus.errors import LaunchRefused, TokenRefused
from flows.gpus.guarding import Guard, entry_costs
from flows.gpus.heartbeats import Me, beat
from flows.gpus.leases import LeaseBook, Terms
from flows.gpus.memory import MemoryProvider
from flows.gpus.reaper import Round
from flows.gpus.settings import SimulatedSection
from flows.settings import StoreSettings

OFFER = GpuOffer(
    provider="cloud", offer_id="t4", gpu="T4", gpu_count=1, gpu_memory_mib=16384, on_demand_price=1.0,
    priced_at=utc_now(),
)  # fmt: skip


def rented(ctx: Context, **section: float) -> tuple[Context, MemoryProvider]:
    """Return an installation whose store the world reaches, and a provider elsewhere."""
    provider = MemoryProvider(OFFER, name="cloud")
    provider.elsewhere = True
    settings = ctx.settings.model_copy(
        update={
            "store": StoreSettings(public_endpoint="8.8.8.8:443", secure=True),
            "providers": {"cloud": SimulatedSection(kind="simulated", **section)},
        }
    )
    return replace(ctx, settings=settings), provider


def ask(ctx: Context, provider: MemoryProvider, price: float = 1.0) -> None:
    """Ask the guard."""
    terms = Terms("plates", "run-0123456789abcdef", OFFER, 0.0, utc_now() + timedelta(hours=2), price=price)
    Guard(ctx, LeaseBook(ctx.database))(provider, terms)


def test_a_store_that_only_we_reach_forbids_machines_elsewhere(ctx: Context) -> None:
    """Nothing is rented that could not fetch its data; a machine of our own may."""
    open_to_all, provider = rented(ctx)
    ask(open_to_all, provider)
    closed = replace(ctx, settings=ctx.settings.model_copy(update={"store": StoreSettings()}))
    with pytest.raises(LaunchRefused, match=r"127\.0\.0\.1"):
        ask(closed, provider)
    provider.elsewhere = False
    ask(closed, provider)


def test_a_bad_token_or_an_empty_account_is_found_before_a_launch(ctx: Context) -> None:
    """Wrong token: which one; too little money: how much there is."""
    ready, provider = rented(ctx, least_balance=5.0)
    provider.balance = 4.5
    with pytest.raises(LaunchRefused, match=r"4\.50"):
        ask(ready, provider)
    provider.balance = 5.5
    ask(ready, provider)
    provider.token_refusal = "it ended yesterday"
    with pytest.raises(TokenRefused, match="ended yesterday"):
        ask(ready, provider)
    assert provider.launches == []


def test_an_account_that_cannot_pay_an_hour_is_not_asked(ctx: Context) -> None:
    """Without a setting the account has to hold what the machine costs an hour; a free one needs nothing."""
    ready, provider = rented(ctx)
    provider.balance = 0.99
    with pytest.raises(LaunchRefused, match=r"0\.99"):
        ask(ready, provider)
    provider.balance = 1.0
    ask(ready, provider)
    provider.balance = 0.0
    ask(ready, provider, price=0.0)


def test_a_deadline_that_passed_forbids_a_launch(ctx: Context) -> None:
    """The reaper would end the machine as soon as it is paid for."""
    ready, provider = rented(ctx)
    terms = Terms("plates", "run-0123456789abcdef", OFFER, 0.0, utc_now() - timedelta(seconds=1), price=1.0)
    with pytest.raises(LaunchRefused, match="which passed"):
        Guard(ready, LeaseBook(ready.database))(provider, terms)


def test_a_machine_that_nothing_ends_needs_two_reapers_or_consent(ctx: Context) -> None:
    """Reapers on two hosts, or the user's word for what a forgotten machine may cost; else no launch."""
    ready, provider = rented(ctx)
    provider.ending = Ending("none", "nothing")
    with pytest.raises(LaunchRefused, match="worst_cost"):
        ask(ready, provider)
    for number in (1, 2):
        beat(ready.database, Me(f"host-{number}", f"boot-{number}"), Round("cloud"), utc_now())
    ask(ready, provider)
    assert provider.launches == []


def test_consent_stands_in_for_reapers(ctx: Context) -> None:
    """A named worst cost that covers the machine is enough; one that does not is refused."""
    ready, provider = rented(ctx, worst_cost=100.0)
    provider.ending = Ending("none", "nothing")
    ask(ready, provider)
    with pytest.raises(LaunchRefused, match="worst_cost"):
        ask(ready, provider, price=10.0)


def test_egress_is_priced_by_provider(ctx: Context) -> None:
    """Bytes times the provider's price for a GiB; this machine costs nothing."""
    ready, _ = rented(ctx, egress_per_gib=0.09)
    entry_of = entry_costs(ready.settings, 10 * 2**30)
    assert entry_of(OFFER) == pytest.approx(0.9)
    assert entry_of(OFFER.model_copy(update={"provider": "this-machine"})) == 0.0
