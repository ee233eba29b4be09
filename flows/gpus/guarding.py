"""Forbid launches that would be in vain or could cost without end, before any provider is asked.

(1) the machine has to reach the store
(2) our token has to be good, and the account to hold enough: what an hour costs, or what the settings say
(3) somebody or something has to end the machine when we are gone
(4) what machines of other runs may still cost this month is not ours to spend
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet_contracts.training import GpuOffer
from flows.gpus.base import GpuProvider
from flows.gpus.endings import Launch, why_not
from flows.gpus.errors import LaunchRefused
from flows.gpus.heartbeats import reapers
from flows.gpus.leases import LeaseBook, Terms
from flows.gpus.money import Budget
from flows.gpus.purse import launch_verdict
from flows.store.egress import egress_cost
from flows.store.reach import why_unreachable

if TYPE_CHECKING:
    from flows.context import Context
    from flows.settings import Settings


class Guard:
    """Ask the installation's settings, the provider and the reapers' beats; see `tenancy.Guard`."""

    def __init__(self, ctx: Context, book: LeaseBook) -> None:
        self._ctx = ctx
        self._book = book

    def __call__(self, provider: GpuProvider, terms: Terms) -> None:
        """Return where a launch may be asked for.

        Raises:
            LaunchRefused: it would be in vain, or nobody would end the machine; with what to do.
            TokenRefused: our token is not good for it.
            ProviderAway: the provider does not say.
        """
        if terms.deadline <= self._book.now():
            raise _refused("a deadline to come", f"{terms.deadline}, which passed", provider)
        # (1)
        if provider.traits.elsewhere and not provider.traits.near:
            why = why_unreachable(self._ctx.settings.store)
            if why:
                raise _refused("a store that the machine can reach", why, provider)
        # (2)
        self._require_standing(provider, terms)
        # (3)
        section = self._ctx.settings.providers.get(provider.name)
        consent = section.worst_cost if section else 0.0
        launch = Launch(provider.name, provider.traits.ending, terms.price, terms.deadline, consent)
        why = why_not(launch, reapers(self._ctx.database), self._book.now())
        if why:
            raise _refused("a machine that somebody ends", why, provider)
        # (4)
        money = self._ctx.settings.money
        verdict = launch_verdict(self._book, Budget(per_month=money.per_month), terms)
        if verdict.state == "stop":
            raise _refused("money left this month", verdict.why, provider, "Raise money.per_month, or wait.")

    def _require_standing(self, provider: GpuProvider, terms: Terms) -> None:
        standing = provider.standing()
        section = self._ctx.settings.providers.get(provider.name)
        least = max(section.least_balance if section else 0.0, terms.price or 0.0)
        if standing.balance is not None and standing.balance < least:
            got = f"${standing.balance:.2f}"
            raise _refused(f"at least ${least:.2f} on the account", got, provider, "Top the account up.")


def entry_costs(settings: Settings, data_bytes: int) -> Callable[[GpuOffer], float]:
    """Return what each start with an offer costs in dollars for the data that the store sends there."""

    def entry_of(offer: GpuOffer) -> float:
        section = settings.providers.get(offer.provider)
        return egress_cost(data_bytes, section.egress_per_gib) if section else 0.0

    return entry_of


def _refused(expected: str, got: str, provider: GpuProvider, now: str = "") -> LaunchRefused:
    return LaunchRefused(expected=expected, got=got, where=provider.name, now=now)
