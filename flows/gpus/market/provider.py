"""Be a cloud on the simulated market, behind the real port: what a GPU cloud does to whoever rents from it.

`MarketCloud` is the cloud itself: machines that run, cost and are taken away, in simulated time.
`MarketProvider` is the adapter that speaks to it and gets the weather of a real one: errors before and after
the effect, a list that lags behind, spot capacity that is gone. Nothing here knows leases or policies.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import Ending, EndingKind, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.market.world import World

NAME = "market"
GPU, MEMORY_MIB = "T4", 16 * 1024


class Clock:
    """Be simulated time; it passes when told to."""

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.at = began

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.at

    def pass_minutes(self, minutes: float) -> None:
        """Let time pass."""
        self.at += timedelta(minutes=minutes)

    @property
    def minute(self) -> int:
        """Return the minute since the beginning."""
        return int((self.at - self.began).total_seconds() // 60)


@dataclass(slots=True)
class Instance:
    """Hold one machine of the cloud; `lease_id` is the tag it was launched with."""

    machine: str
    lease_id: str
    place: int
    spot: bool
    began: datetime
    ended: datetime | None = None
    why: str = ""
    until: datetime | None = None
    """The deadline it was launched with, for the ways to end that know one."""
    hangs: bool = False
    """Its guest ends nothing: it hung, or never came up."""

    @property
    def runs(self) -> bool:
        """Tell whether it runs, and costs."""
        return self.ended is None


@dataclass(frozen=True, slots=True)
class Weather:
    """Say how the cloud treats its callers: probabilities from 0 to 1 by call, minutes."""

    fails_before: float = 0.0
    """The call has no effect, and an error is answered."""
    fails_after: float = 0.0
    """The call has its effect, and the answer is lost."""
    loses_launches: float = 0.0
    """The same for launches alone, which matter most and come seldom."""
    refuses: float = 0.0
    """On demand has nothing left just now."""
    list_lags: float = 0.0
    """Minutes until a new machine shows in the list, and an old one leaves it."""
    runs_on: float = 0.0
    """Minutes a machine goes on after it was ordered to end."""
    ignores_ends: float = 0.0
    """The order to end a machine is answered and has no effect."""
    guest_hangs: float = 0.0
    """A machine whose own clock would end it never does."""


CALM = Weather()


class MarketCloud:
    """Be the cloud: the truth about machines, whatever its interface says of them."""

    def __init__(self, world: World, clock: Clock, ending: EndingKind = "none") -> None:
        self.world, self.clock, self.ending = world, clock, ending
        self.instances: dict[str, Instance] = {}

    def start(self, lease_id: str, place: int, *, spot: bool, until: datetime | None = None) -> Instance:
        """Start a machine; a second one under the same tag is another machine."""
        name = f"vm-{len(self.instances):04d}"
        made = Instance(name, lease_id, place, spot, self.clock(), until=until)
        self.instances[name] = made
        return made

    def keep_time(self) -> None:
        """End what has reached its deadline, as this cloud's way to end says; call once a minute.

        The seller's own deadline always holds; one that the guest keeps does not where it hangs.
        """
        if self.ending == "none":
            return
        for instance in self.instances.values():
            kept = self.ending == "server-deadline" or not instance.hangs
            if instance.runs and instance.until is not None and instance.until <= self.clock() and kept:
                self.end(instance, f"its deadline, kept by {self.ending}")

    def has_spot(self, place: int) -> bool:
        """Tell whether a place has spot machines this minute."""
        return bool(self.world.has_spot[place, min(self.clock.minute, self.world.minutes - 1)])

    def price(self, place: int, *, spot: bool, minute: int | None = None) -> float:
        """Return the price in dollars an hour."""
        if not spot:
            return self.world.on_demand[place]
        at = self.clock.minute if minute is None else minute
        return float(self.world.spot_price[place, min(at, self.world.minutes - 1)])

    def take_away(self) -> list[Instance]:
        """End every spot machine whose place has none any more; call once a minute."""
        spot = [one for one in self.instances.values() if one.runs and one.spot]
        gone = [one for one in spot if not self.has_spot(one.place)]
        for instance in gone:
            self.end(instance, "taken away")
        return gone

    def end(self, instance: Instance, why: str, at: datetime | None = None) -> None:
        """End a machine; one that has ended stays as it ended."""
        if instance.runs:
            instance.ended, instance.why = at or self.clock(), why

    def bill(self) -> float:
        """Return what all machines have cost until now in dollars, by the prices of their minutes."""
        return sum(self._bill_of(one) for one in self.instances.values())

    def _bill_of(self, instance: Instance) -> float:
        ended = min(instance.ended or self.clock(), self.clock())
        first = int((instance.began - self.clock.began).total_seconds() // 60)
        last = int((ended - self.clock.began).total_seconds() // 60)
        minutes = range(first, last)
        return sum(self.price(instance.place, spot=instance.spot, minute=one) for one in minutes) / 60.0


@dataclass
class MarketProvider:
    """Rent from a `MarketCloud` through the port.

    Args:
        cloud: the cloud.
        weather: how it answers.
        rng: draws the weather.
        heard: called with every call's name before and after its effect; a test may die in it.
    """

    cloud: MarketCloud
    weather: Weather = CALM
    rng: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - weather, not secrets
    heard: Callable[[str], None] = lambda _: None
    name: str = NAME
    failures: int = 0
    lost_launches: int = 0

    @property
    def settles(self) -> timedelta:
        """Return how long the list may lag."""
        return timedelta(minutes=self.weather.list_lags)

    @property
    def traits(self) -> Traits:
        """Return how its cloud ends machines."""
        kind = self.cloud.ending
        return Traits(Ending(kind, f"simulated: {kind}, at the lease's deadline"), elsewhere=False)

    def standing(self) -> Standing:
        """Return at once: the simulated cloud asks for no token."""
        self._before("standing")
        return Standing(self.name)

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return every place; a spot price is named where there are spot machines now."""
        self._before("offers")
        return tuple(
            GpuOffer(
                provider=self.name,
                offer_id=f"place-{place}",
                gpu=GPU,
                gpu_count=1,
                gpu_memory_mib=MEMORY_MIB,
                on_demand_price=self.cloud.price(place, spot=False),
                spot_price=self.cloud.price(place, spot=True) if self.cloud.has_spot(place) else None,
                region=f"place-{place}",
                price_source="the simulated market",
                priced_at=self.cloud.clock(),
            )
            for place in range(self.cloud.world.places)
        )

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start a machine under the lease's tag; asked twice, it starts two, as many clouds do."""
        del ticket
        self._before("launch")
        place = int(lease.offer.offer_id.rpartition("-")[2])
        if lease.spot and not self.cloud.has_spot(place):
            raise self._refused("no spot capacity", lease)
        if not lease.spot and self._happens(self.weather.refuses):
            raise self._refused("no capacity", lease)
        made = self.cloud.start(lease.lease_id, place, spot=lease.spot, until=lease.deadline)
        made.hangs = self._happens(self.weather.guest_hangs)
        self._after("launch")
        if self._happens(self.weather.loses_launches):
            self.lost_launches += 1
            raise self._away("the answer to launch was lost")
        return made.machine

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is; one that was never there is gone."""
        self._before("status")
        found = self.cloud.instances.get(machine)
        self._after("status")
        if found is None:
            return MachineStatus("gone")
        return MachineStatus("running" if self._still_runs(found) else "ended", found.why)

    def logs(self, machine: str) -> str:
        """Return nothing: its machines train nothing."""
        self._before("logs")
        return ""

    def terminate(self, machine: str) -> None:
        """End a machine; one that has ended or was never there is no error."""
        self._before("terminate")
        found = self.cloud.instances.get(machine)
        if found is not None and found.runs and not self._happens(self.weather.ignores_ends):
            self.cloud.end(found, "terminated", self.cloud.clock() + timedelta(minutes=self.weather.runs_on))
        self._after("terminate")

    def list_ours(self) -> tuple[Machine, ...]:
        """Return the machines that run, as the lagging list knows them."""
        self._before("list")
        now, lag = self.cloud.clock(), timedelta(minutes=self.weather.list_lags)
        shown = [one for one in self.cloud.instances.values() if one.began + lag <= now]
        listed = [one for one in shown if one.runs or (one.ended and one.ended + lag > now)]
        self._after("list")
        return tuple(Machine(one.machine, one.lease_id) for one in listed)

    def _still_runs(self, instance: Instance) -> bool:
        return instance.runs or (instance.ended is not None and instance.ended > self.cloud.clock())

    def _before(self, call: str) -> None:
        self.heard(f"before {call}")
        self._maybe_fail(self.weather.fails_before, f"{call} had no effect")

    def _after(self, call: str) -> None:
        self.heard(f"after {call}")
        self._maybe_fail(self.weather.fails_after, f"the answer to {call} was lost")

    def _maybe_fail(self, chance: float, what: str) -> None:
        if self._happens(chance):
            raise self._away(what)

    def _happens(self, chance: float) -> bool:
        return chance > 0.0 and self.rng.random() < chance

    def _away(self, what: str) -> ProviderAway:
        self.failures += 1
        return ProviderAway(expected="an answer", got=what, where=self.name)

    def _refused(self, why: str, lease: Lease) -> LaunchRefused:
        return LaunchRefused(
            expected="a machine", got=why, where=f"{lease.offer.offer_id} of {self.name}",
            now="Another offer is tried.",
        )  # fmt: skip
