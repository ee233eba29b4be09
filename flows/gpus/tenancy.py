"""Keep a run on a machine: the best offer of the moment, the next one when it dies, none when it is over.

`Tenant.step` is called again and again by whoever follows the run. It does one thing at a time and remembers
nothing that a crash could take: leases say what is rented, the provider whether it lives, the run's events
how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.leases import MACHINE_ENDED, LeaseBook, Terms, end_machine, give_back, rent
from flows.gpus.spot import Move, Offer, Situation, decide

log = logging.getLogger("whetstone.gpus")

REFUSED_FOR = timedelta(minutes=5)
"""How long an offer that refused a launch is left alone."""
FREE_LEASE = timedelta(hours=24)
"""Least time a free machine is leased for: no bill grows while it works on past the plan's deadline."""
FOREVER = timedelta(days=365)
"""Time left of a run without a deadline."""


@dataclass(frozen=True, slots=True)
class Need:
    """Say what a run needs of a machine; minutes are those of the machine it was planned for.

    `fits` tells whether an offer may be taken, `speed_of` how fast it is next to the planned one, `spot`
    whether machines may be taken that can be taken away, `free` that nothing is paid for whatever fits.
    """

    task_id: str
    run_id: str
    deadline: datetime
    has_deadline: bool
    price_cap: float
    work_minutes: float
    cold_start: float
    epoch: float
    fits: Callable[[GpuOffer], bool]
    speed_of: Callable[[GpuOffer], float] = lambda _: 1.0
    spot: bool = True
    free: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Say how far a run is, as shares of its work: what is saved for good, and what its machine has done."""

    saved: float = 0.0
    here: float = 0.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Hold one way to rent: an offer, spot or on demand."""

    offer: GpuOffer
    spot: bool

    @property
    def name(self) -> str:
        return name_of(self.offer, spot=self.spot)

    @property
    def price(self) -> float | None:
        return self.offer.spot_price if self.spot else self.offer.on_demand_price


def name_of(offer: GpuOffer, *, spot: bool) -> str:
    """Return what an offer is called among those of all providers."""
    return f"{offer.provider}/{offer.offer_id}/{'spot' if spot else 'on-demand'}"


class Tenant:
    """Rent for one run.

    Args:
        book: the installation's leases.
        providers: whose machines may be rented, by name.
        need: what the run needs.
        ticket: returns the file with the run's ticket.
    """

    def __init__(
        self,
        book: LeaseBook,
        providers: Mapping[str, GpuProvider],
        need: Need,
        ticket: Callable[[], Path],
    ) -> None:
        self._book = book
        self._providers = providers
        self._need = need
        self._ticket = ticket
        self._refused: dict[str, datetime] = {}
        self.why = ""
        """Why the last move was made."""

    def lease(self) -> Lease | None:
        """Return the lease the run lives under now."""
        live = self._book.live(run_id=self._need.run_id)
        return next((one for one in live if one.machine), live[0] if live else None)

    def is_running(self) -> bool:
        """Tell whether a machine works on the run; one that died has its lease ended.

        Raises:
            ProviderAway: nobody can tell.
        """
        lease = self.lease()
        if lease is None or not lease.machine:
            return False
        provider = self._provider_of(lease)
        if provider.status(lease.machine).state == "running":
            return True
        end_machine(provider, lease.machine)
        self._book.end(lease.lease_id, MACHINE_ENDED)
        log.warning("gpus.machine_ended run=%s machine=%s spot=%s", lease.run_id, lease.machine, lease.spot)
        return False

    def step(self, progress: Progress) -> Move:
        """Do the next thing: stay, rent, move, or wait; return what was decided.

        Raises:
            LaunchRefused: the only offer that fits was refused.
            ProviderAway: a provider does not answer; the same step may work later.
            LeaseEnded: the reaper ended the lease meanwhile.
        """
        running = self.is_running()
        lease = self.lease()
        # (1) a lease without a machine is a launch that was begun: it is ended or carried through first
        if lease is not None and not running:
            return self._rent(Terms(lease.task_id, lease.run_id, lease.offer, lease.price_cap, lease.deadline,
                                    lease.spot, lease.price), "a launch that was begun")  # fmt: skip
        # (2) what to do is decided on what is offered now and on what offers did to us before
        places = {place.name: place for place in self._places()}
        move = decide(self._situation(progress, places, lease))
        if move.kind != "rent":
            return move
        # (3) a move ends the old machine before it asks for a new one, so that two are never paid
        if lease is not None:
            give_back(self._book, self._provider_of(lease), lease, f"moved: {move.why}")
        return self._rent(self._terms(places[move.offer]), move.why)

    def end(self, reason: str) -> None:
        """Give back whatever the run has.

        Raises:
            ProviderAway: a machine cannot be ended just now; the call is made again.
        """
        for lease in self._book.live(run_id=self._need.run_id):
            give_back(self._book, self._provider_of(lease), lease, reason)

    def _rent(self, terms: Terms, why: str) -> Move:
        place = name_of(terms.offer, spot=terms.spot)
        try:
            lease = rent(self._book, self._providers[terms.offer.provider], terms, self._ticket())
        except LaunchRefused as error:
            if not self._has_others(place):
                raise
            self._refused[place] = self._book.now() + REFUSED_FOR
            log.warning("gpus.launch_refused offer=%s why=%s", place, error.got)
            return Move("wait", why=f"{place} refused: {error.got}")
        self.why = why
        log.info("gpus.rented run=%s lease=%s offer=%s why=%s", terms.run_id, lease.lease_id, place, why)
        return Move("rent", place, why)

    def _terms(self, place: _Place) -> Terms:
        need = self._need
        # The reaper ends what is past its lease: one that began late must not be ended as soon as it began.
        deadline = max(need.deadline, self._book.now() + FREE_LEASE) if need.free else need.deadline
        return Terms(
            need.task_id, need.run_id, place.offer, need.price_cap, deadline, place.spot, place.price
        )

    def _places(self) -> list[_Place]:
        """Return every way to rent that fits; an offer of unknown price cannot be weighed and is left out."""
        found, away = [], None
        for provider in self._providers.values():
            try:
                offers = provider.offers()
            except ProviderAway as error:
                away = error
                continue
            for offer in filter(self._need.fits, offers):
                ways = [_Place(offer, spot=kind) for kind in ((False, True) if self._need.spot else (False,))]
                found += [one for one in ways if one.price is not None and self._is_in_cap(one.price)]
        if not found and away is not None:
            raise away
        return found

    def _has_others(self, name: str) -> bool:
        return any(place.name != name for place in self._places())

    def _is_in_cap(self, price: float) -> bool:
        return self._need.price_cap <= 0.0 or price <= self._need.price_cap

    def _situation(self, progress: Progress, places: Mapping[str, _Place], lease: Lease | None) -> Situation:
        need, now = self._need, self._book.now()
        here = name_of(lease.offer, spot=lease.spot) if lease else ""
        lived = (now - lease.launched_at).total_seconds() / 60.0 if lease and lease.launched_at else 0.0
        deaths, minutes = self._history(now)
        offers = [
            Offer(
                name, place.spot, place.price or 0.0, not self._is_refused(name, now) or name == here,
                deaths.get(name, 0), minutes.get(name, 0.0), need.speed_of(place.offer),
            )
            for name, place in places.items()
        ]  # fmt: skip
        if lease is not None and here not in places:
            # A spot offer that is sold out is not offered, and still what we have.
            speed = need.speed_of(lease.offer)
            offers.append(Offer(here, lease.spot, lease.price or 0.0, True, deaths.get(here, 0),
                                minutes.get(here, 0.0), speed))  # fmt: skip
        return Situation(
            time_left=((need.deadline - now) if need.has_deadline else FOREVER).total_seconds() / 60.0,
            work_saved=need.work_minutes * (1.0 - progress.saved),
            work_here=need.work_minutes * (1.0 - max(progress.here, progress.saved)),
            cold_start=need.cold_start,
            epoch=need.epoch,
            here=here,
            cold_left=max(need.cold_start - lived, 0.0),
            offers=tuple(offers),
        )

    def _history(self, now: datetime) -> tuple[dict[str, int], dict[str, float]]:
        """Return how often machines of each offer died under us, and the minutes they lived, in 30 days."""
        deaths: dict[str, int] = {}
        minutes: dict[str, float] = {}
        for lease in self._book.since(now - timedelta(days=30)):
            if lease.launched_at is None:
                continue
            name = name_of(lease.offer, spot=lease.spot)
            lasted = ((lease.ended_at or now) - lease.launched_at).total_seconds() / 60.0
            minutes[name] = minutes.get(name, 0.0) + lasted
            deaths[name] = deaths.get(name, 0) + (lease.end_reason == MACHINE_ENDED)
        return deaths, minutes

    def _is_refused(self, name: str, now: datetime) -> bool:
        return self._refused.get(name, now) > now

    def _provider_of(self, lease: Lease) -> GpuProvider:
        return self._providers[lease.provider]
