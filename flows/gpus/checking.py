"""Ask every provider for what a person wants to know; one that does not answer is told, not raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.context import Context
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider, Machine
from flows.gpus.endings import Launch, Reaper, hosts_of, watching, why_not, worst_cost
from flows.gpus.errors import LeaseEnded, TokenRefused
from flows.gpus.heartbeats import Beat, beats, reapers
from flows.gpus.leases import LeaseBook, give_back
from flows.gpus.lenders import Lenders
from flows.gpus.outlook import Place
from flows.store.reach import why_unreachable

_GOOD = "good"
SUPPOSED = timedelta(hours=6)
"""For how long a machine is supposed to be rented when a check says whether one could be."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Say how one provider stands; `lines` is what a person should read beside it."""

    provider: str
    token: str
    balance: float | None
    expires_at: datetime | None
    ending: str
    hosts: tuple[str, ...]
    launch: str
    lines: tuple[str, ...] = ()
    is_bad: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        ends = self.expires_at.isoformat() if self.expires_at else None
        return {**asdict(self), "expires_at": ends}


def offers_now(lenders: Mapping[str, GpuProvider]) -> tuple[list[GpuOffer], dict[str, str]]:
    """Return all offers, cheapest first and those of unknown price last, and who did not answer."""
    found: list[GpuOffer] = []
    troubles: dict[str, str] = {}
    for name, provider in lenders.items():
        try:
            found += provider.offers()
        except FlowsError as error:
            troubles[name] = str(error)
    return sorted(found, key=lambda one: (_least(one) is None, _least(one) or 0.0, one.offer_id)), troubles


def machines_now(lenders: Mapping[str, GpuProvider]) -> tuple[list[Machine], dict[str, str]]:
    """Return every machine of ours that providers name, and who did not answer."""
    found: list[Machine] = []
    troubles: dict[str, str] = {}
    for name, provider in lenders.items():
        try:
            found += provider.list_ours()
        except FlowsError as error:
            troubles[name] = str(error)
    return found, troubles


def check_all(ctx: Context) -> tuple[Checked, ...]:
    """Return how every provider stands, also those that cannot be set up."""
    lenders = Lenders(ctx.folder)
    known = lenders.now()
    found, alive = beats(ctx.database), reapers(ctx.database)
    checked = [_check(ctx, provider, found, alive) for provider in known.values()]
    checked += [
        Checked(one.provider, "?", None, None, "?", (), "impossible", (one.trouble,), is_bad=True)
        for one in lenders.failed()
    ]
    return tuple(checked)


def end_lease(ctx: Context, name: str, reason: str) -> Lease:
    """End the machine of a live lease, given by its name or how that begins.

    Raises:
        LeaseEnded: no live lease, or several, of that name.
        ProviderAway: the machine still runs; nothing is believed to have ended.
    """
    book = LeaseBook(ctx.database)
    live = book.live()
    begun = [
        one for one in live if one.lease_id.removeprefix("lease-").startswith(name.removeprefix("lease-"))
    ]
    if len(begun) != 1:
        raise LeaseEnded(
            expected=f"one of the live leases {[one.lease_id for one in live]}",
            got=f"{name!r}, which {len(begun)} match",
            where="leases", now="See 'whetstone gpus list'.",
        )  # fmt: skip
    (lease,) = begun
    known = Lenders(ctx.folder).now()
    if lease.provider not in known:
        raise LeaseEnded(
            expected=f"a lease of one of the providers {sorted(known)}",
            got=lease.provider,
            where=lease.lease_id,
            now="Set its provider up again, so that its machine can be ended.",
        )  # fmt: skip
    give_back(book, known[lease.provider], lease, reason)
    return book.find(lease.lease_id) or lease


def _check(
    ctx: Context, provider: GpuProvider, found: tuple[Beat, ...], alive: tuple[Reaper, ...]
) -> Checked:
    token, balance, expires, lines = _standing(provider)
    section = ctx.settings.providers.get(provider.name)
    now, traits = utc_now(), provider.traits
    price, trouble = _dearest(provider)
    launch = Launch(
        provider.name, traits.ending, price, now + SUPPOSED, section.worst_cost if section else 0.0
    )
    reasons = [_out_of_reach(ctx, provider), trouble if token == _GOOD else ""]
    if not trouble and price is not None:
        reasons.append(why_not(launch, alive, now))
        lines += _consented(launch, now)
    reasons = [one for one in reasons if one]
    lines += reasons
    lines += [
        f"reaper on {one.host}: {one.trouble}"
        for one in found
        # What we were just told ourselves is not told again.
        if one.provider == provider.name and one.trouble and not any(one.trouble in line for line in lines)
    ]
    is_bad = bool(reasons) or token != _GOOD
    hosts = hosts_of(watching(alive, provider.name, now))
    return Checked(
        provider.name, token, balance, expires, f"{traits.ending.kind}: {traits.ending.how}", hosts,
        "refused" if is_bad else "possible", tuple(lines), is_bad,
    )  # fmt: skip


def _out_of_reach(ctx: Context, provider: GpuProvider) -> str:
    if provider.traits.near or not provider.traits.elsewhere:
        return ""
    return why_unreachable(ctx.settings.store)


def _consented(launch: Launch, now: datetime) -> list[str]:
    worst = worst_cost(launch, now)
    if not worst or not launch.consent or launch.ending.kind == "own-process":
        return []
    return [f"you consented to ${launch.consent:.2f}; the dearest offer could cost ${worst:.2f} if forgotten"]


def _standing(provider: GpuProvider) -> tuple[str, float | None, datetime | None, list[str]]:
    try:
        standing = provider.standing()
    except TokenRefused as error:
        return "refused", None, None, [f"{error} {error.diagnostics()}" if not error.now else str(error)]
    except FlowsError as error:
        return "away", None, None, [str(error)]
    lines = [f"the token ends {standing.expires_at:%Y-%m-%d %H:%M} UTC"] if standing.expires_at else []
    return _GOOD, standing.balance, standing.expires_at, lines


def _dearest(provider: GpuProvider) -> tuple[float | None, str]:
    """Return the dearest on-demand price offered, None where none is known, and what went wrong."""
    try:
        prices = [Place(offer, spot=False).price for offer in provider.offers()]
    except FlowsError as error:
        return None, str(error)
    if not prices:
        return (
            None,
            "nothing is offered: all is taken, or its settings leave nothing or name what is not there",
        )
    known = [price for price in prices if price is not None]
    return (max(known), "") if known else (None, "no offer has a price, so none can be weighed")


def _least(offer: GpuOffer) -> float | None:
    known = [price for price in (offer.on_demand_price, offer.spot_price) if price is not None]
    return min(known, default=None)
