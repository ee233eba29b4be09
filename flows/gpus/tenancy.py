"""Keep a run on a machine: the best offer of the moment, the next one when it dies, none when it is over.

`Tenant.step` is called again and again by whoever follows the run. It does one thing at a time and remembers
nothing that a crash could take: leases say what is rented, the provider whether it lives, the run's events
how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from fleet_contracts.training import Lease
from flows.gpus.base import GpuProvider
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused
from flows.gpus.leases import MACHINE_ENDED, LeaseBook, Terms, end_machine, give_back, rent, state_of
from flows.gpus.outlook import MEMORY, Need, Place, Progress, View, name_of, situation_of
from flows.gpus.shunned import REFUSED_FOR, UNFIT_FOR, doubtful, left_alone
from flows.gpus.spot import Move, Situation, decide

log = logging.getLogger("whetstone.gpus")

MOST_REFUSALS = 5
"""Offers that are tried one after the other before the next pause."""
Guard = Callable[[GpuProvider, Terms], None]
"""Raises `LaunchRefused`, `TokenRefused` or `ProviderAway` where a launch must not even be asked for."""
FREE_LEASE = timedelta(hours=24)
"""Least time a machine is leased for whose run has no deadline to keep, as no free one has."""


def no_guard(provider: GpuProvider, terms: Terms) -> None:
    """Let every launch be asked for."""


class Tenant:
    """Rent for one run.

    Args:
        book: the installation's leases.
        providers: whose machines may be rented, by name.
        need: what the run needs.
        ticket: writes the run's ticket and returns its file.
        guard: asked before a provider is.
    """

    def __init__(
        self,
        book: LeaseBook,
        providers: Mapping[str, GpuProvider],
        need: Need,
        ticket: Callable[[], Path],
        guard: Guard = no_guard,
    ) -> None:
        self._book = book
        self._providers = providers
        self._need = need
        self._ticket = ticket
        self._guard = guard
        self._refused: dict[str, datetime] = {}
        self.why = ""
        """Why the last move was made."""
        self.refusal = ""
        """Who refused a launch last, and why."""

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
        if state_of(self._book, provider, lease) == "running":
            return True
        end_machine(provider, lease.machine)
        self._book.end(lease.lease_id, MACHINE_ENDED)
        log.warning("gpus.machine_ended run=%s machine=%s spot=%s", lease.run_id, lease.machine, lease.spot)
        return False

    def step(self, progress: Progress) -> Move:
        """Do the next thing: stay, rent, move, or wait; return what was decided.

        Raises:
            LaunchRefused: the only machine that fits is our own, and it refuses.
            ProviderAway: a provider does not answer; the same step may work later.
            TokenRefused: one does not take our token; likewise, once it is renewed.
            LeaseEnded: the reaper ended the lease meanwhile.
        """
        running = self.is_running()
        # (1) a launch that was begun is carried through first; where nothing was asked, all is decided anew
        self._end_unasked()
        lease = self.lease()
        if lease is not None and not running:
            begun = Terms(lease.task_id, lease.run_id, lease.offer, lease.price_cap, lease.deadline,
                          lease.spot, lease.price)  # fmt: skip
            return self._rent(begun, "a launch that was begun")
        for _ in range(MOST_REFUSALS):
            # (2) what to do is decided on what is offered now and on what offers did to us before
            places = self._places_beside(lease)
            if places is None:
                return Move("stay", why="nobody says what else there is")
            move = decide(self._situation(progress, places, lease))
            if move.kind != "rent":
                return move
            # (3) what forbids a launch is found before anything is given up for it
            terms = self._terms(places[move.offer])
            if not self._may_ask(terms):
                continue
            # (4) a move ends the old machine before it asks for a new one, so that two are never paid
            if lease is not None:
                give_back(self._book, self._provider_of(lease), lease, f"moved: {move.why}")
                lease = None
            moved = self._rent(terms, move.why)
            # (5) a lease that still lives may have a machine, whatever was answered: no other is asked then
            if moved.kind == "rent" or self.lease() is not None:
                return moved
        return Move("stay" if lease else "wait", why=self.refusal)

    def shun(self, why: str) -> None:
        """Leave the offer of the run's last machine alone for a day."""
        leases = self._book.of_run(self._need.run_id)
        if leases:
            self._refuse(name_of(leases[-1].offer, spot=leases[-1].spot), why, UNFIT_FOR)

    def has_elsewhere(self) -> bool:
        """Tell whether any provider of the run may yet have a machine: one of our own is as it is."""
        return any(provider.traits.elsewhere for provider in self._providers.values())

    def end(self, reason: str) -> None:
        """Give back whatever the run has.

        Raises:
            ProviderAway, TokenRefused: a machine cannot be ended just now; the call is made again.
        """
        away: ProviderAway | TokenRefused | None = None
        for lease in self._book.live(run_id=self._need.run_id):
            try:
                give_back(self._book, self._provider_of(lease), lease, reason)
            except (ProviderAway, TokenRefused) as error:
                # One that cannot be ended must not keep another.
                away = error
        if away is not None:
            raise away

    def call_off(self, reason: str) -> None:
        """Leave whatever the run has to the reaper, which ends it as soon as its seller lets it."""
        for lease in self._book.live(run_id=self._need.run_id):
            self._book.call_off(lease.lease_id, reason)

    def explain(self, reason: str) -> None:
        """Say why the run's last machine ended, where it ended by itself: that was no death."""
        leases = self._book.of_run(self._need.run_id)
        if leases:
            self._book.explain(leases[-1].lease_id, reason)

    def _may_ask(self, terms: Terms) -> bool:
        place, provider = name_of(terms.offer, spot=terms.spot), self._providers[terms.offer.provider]
        try:
            self._guard(provider, terms)
        except (LaunchRefused, TokenRefused, ProviderAway) as error:
            self._refuse(place, str(error), REFUSED_FOR)
            self._require_another(place, provider, error)
            return False
        return True

    def _rent(self, terms: Terms, why: str) -> Move:
        place, provider = name_of(terms.offer, spot=terms.spot), self._provider(terms.offer.provider)
        try:
            lease = rent(self._book, provider, terms, self._ticket())
        except (LaunchRefused, TokenRefused) as error:
            self._end_unasked()
            self._refuse(place, str(error), REFUSED_FOR)
            self._require_another(place, provider, error)
            return Move("wait", why=self.refusal)
        self.why = why
        log.info("gpus.rented run=%s lease=%s offer=%s why=%s", terms.run_id, lease.lease_id, place, why)
        return Move("rent", place, why)

    def _end_unasked(self) -> None:
        """End a lease under which nothing was asked for, so that another provider may be taken."""
        for lease in self._book.live(run_id=self._need.run_id):
            if not lease.machine and lease.asked_at is None:
                self._book.end(lease.lease_id, "nothing was asked for under it")

    def _refuse(self, place: str, why: str, time: timedelta) -> None:
        self._refused[place] = self._book.now() + time
        self.refusal = f"{place} refused: {why}"
        log.warning("gpus.launch_refused offer=%s why=%s", place, why)

    def _require_another(self, place: str, provider: GpuProvider, error: Exception) -> None:
        """Give up where no other offer is left and this one cannot change: it is a machine of our own."""
        if not provider.traits.elsewhere and not self._has_others(place):
            raise error

    def _terms(self, place: Place) -> Terms:
        need = self._need
        # The reaper ends what is past its lease: one that began late must not be ended as soon as it began.
        bound = need.has_deadline and not need.free
        deadline = need.deadline if bound else max(need.deadline, self._book.now() + FREE_LEASE)
        return Terms(
            need.task_id, need.run_id, place.offer, need.price_cap, deadline, place.spot, place.price
        )

    def _places_beside(self, lease: Lease | None) -> dict[str, Place] | None:
        """Return every way by name; None where nobody answers and a machine is at work all the same."""
        try:
            return {place.name: place for place in self._places()}
        except (ProviderAway, TokenRefused):
            if lease is None:
                raise
            return None

    def _places(self) -> list[Place]:
        """Return every way to rent that fits; an offer of unknown price cannot be weighed and is left out."""
        found, away = [], None
        for provider in self._providers.values():
            try:
                offers = provider.offers()
            except (ProviderAway, TokenRefused) as error:
                log.warning("gpus.no_offers provider=%s error=%s", provider.name, error)
                away = error
                continue
            for offer in filter(self._need.fits, offers):
                ways = [Place(offer, spot=kind) for kind in ((False, True) if self._need.spot else (False,))]
                found += [one for one in ways if one.price is not None and self._is_in_cap(one.price)]
        if not found and away is not None:
            raise away
        return found

    def _has_others(self, name: str) -> bool:
        return any(place.name != name for place in self._places())

    def _is_in_cap(self, price: float) -> bool:
        return self._need.price_cap <= 0.0 or price <= self._need.price_cap

    def _situation(self, progress: Progress, places: Mapping[str, Place], lease: Lease | None) -> Situation:
        now = self._book.now()
        mine = self._book.of_run(self._need.run_id)
        refused = left_alone(mine, now) | {name for name in places if self._is_refused(name, now)}
        view = View(self._need, progress, places, lease, refused, doubtful(mine))
        return situation_of(view, self._book.since(now - MEMORY), now)

    def _is_refused(self, name: str, now: datetime) -> bool:
        return self._refused.get(name, now) > now

    def _provider_of(self, lease: Lease) -> GpuProvider:
        return self._provider(lease.provider)

    def _provider(self, name: str) -> GpuProvider:
        if name not in self._providers:
            raise ProviderAway(
                expected=f"one of the providers {sorted(self._providers)}",
                got=name,
                where=f"a lease of {self._need.run_id}",
                now="Set it up again: nobody else can end its machine.",
            )
        return self._providers[name]
