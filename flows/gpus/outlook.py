"""Look at a run's ways to rent as the policy needs to see them: price, speed, what they did to us; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.leases import MACHINE_ENDED
from flows.gpus.spot import Offer, Situation

FOREVER = timedelta(days=365)
"""Time left of a run without a deadline."""
MEMORY = timedelta(days=30)
"""How far back it counts what an offer did to us."""


@dataclass(frozen=True, slots=True)
class Need:
    """Say what a run needs of a machine; minutes are those of the machine it was planned for.

    `fits` tells whether an offer may be taken, `speed_of` how fast it is next to the planned one, `spot`
    whether machines may be taken that can be taken away, `free` that nothing is paid for whatever fits,
    `entry_of` what each start there costs in dollars beside its time.
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
    entry_of: Callable[[GpuOffer], float] = lambda _: 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Say how far a run is, as shares of its work: what is saved for good, and what its machine has done."""

    saved: float = 0.0
    here: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """Hold one way to rent: an offer, spot or on demand."""

    offer: GpuOffer
    spot: bool

    @property
    def name(self) -> str:
        """Return what it is called among all ways."""
        return name_of(self.offer, spot=self.spot)

    @property
    def price(self) -> float | None:
        """Return dollars an hour, None when nobody knows."""
        return self.offer.spot_price if self.spot else self.offer.on_demand_price


def name_of(offer: GpuOffer, *, spot: bool) -> str:
    """Return what an offer is called among those of all providers."""
    return f"{offer.provider}/{offer.offer_id}/{'spot' if spot else 'on-demand'}"


@dataclass(frozen=True, slots=True)
class View:
    """Hold what a run sees at a moment: its ways by name, the lease it lives under, and who refuses it.

    `doubtful` are those that refused it at any time before.
    """

    need: Need
    progress: Progress
    places: Mapping[str, Place]
    lease: Lease | None
    refused: frozenset[str]
    doubtful: frozenset[str] = frozenset()


def situation_of(view: View, leases: Iterable[Lease], now: datetime) -> Situation:
    """Return what the policy decides on; `leases` are those of all runs within `MEMORY`."""
    need, progress, lease = view.need, view.progress, view.lease
    here = name_of(lease.offer, spot=lease.spot) if lease else ""
    lived = (now - lease.launched_at).total_seconds() / 60.0 if lease and lease.launched_at else 0.0
    deaths, minutes = _history(leases, now)
    offers = [
        Offer(
            name, place.spot, place.price or 0.0, name not in view.refused or name == here,
            deaths.get(name, 0), minutes.get(name, 0.0), need.speed_of(place.offer),
            need.entry_of(place.offer), name in view.doubtful and name != here,
        )
        for name, place in view.places.items()
    ]  # fmt: skip
    if lease is not None and here not in view.places:
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


def _history(leases: Iterable[Lease], now: datetime) -> tuple[dict[str, int], dict[str, float]]:
    """Return how often machines of each offer died under us, and the minutes they lived."""
    deaths: dict[str, int] = {}
    minutes: dict[str, float] = {}
    for lease in leases:
        if lease.launched_at is None:
            continue
        name = name_of(lease.offer, spot=lease.spot)
        lasted = ((lease.ended_at or now) - lease.launched_at).total_seconds() / 60.0
        minutes[name] = minutes.get(name, 0.0) + lasted
        deaths[name] = deaths.get(name, 0) + (lease.end_reason == MACHINE_ENDED)
    return deaths, minutes
