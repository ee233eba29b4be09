"""Say what we need of whoever lends a machine: offers, launch, status, terminate, and a list of what is ours.

A machine trains by running `python -m trainer run` with one ticket and speaks to nobody but the bucket. An
adapter only moves calls; who may be launched, and when a machine has to end, is decided by `leases` and
`reaper`, which hold for every provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from fleet_contracts.training import GpuOffer, Lease

MachineState = Literal["running", "ended", "gone"]
EndingKind = Literal["own-process", "server-deadline", "exit-ends", "instance-key", "guest-power-off", "none"]
LOG_LINES = 200
"""How many lines of a machine's output are asked for."""


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """Say how a machine is: `ended` ran and runs no more, `gone` is unknown to the provider."""

    state: MachineState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Name one machine of ours and the lease it was started under."""

    machine: str
    lease_id: str


@dataclass(frozen=True, slots=True)
class Ending:
    """Say how a machine ends, and its bill with it, when nothing of ours lives any more.

    `own-process` runs on a machine of ours; `server-deadline` is the seller's own; `exit-ends` ends the bill
    when the trainer exits, which has a deadline of its own; `instance-key` lets the machine delete itself;
    `guest-power-off` ends the bill when it switches itself off; with `none` somebody has to end it.
    """

    kind: EndingKind
    how: str
    """In words, with what sets the deadline and what would have to fail for it not to hold."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Say what holds for every machine of a provider.

    `elsewhere` machines reach the store by its public address alone; `priced` false means that offers carry
    prices a person wrote down, not the seller's. Those that are `near` are not ours and stand in our network
    all the same, so that they reach addresses nobody else does.
    """

    ending: Ending
    elsewhere: bool = True
    priced: bool = True
    near: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Say how we stand with a provider; None is what its API does not tell. Money in dollars."""

    who: str = ""
    """The account, as far as it may be shown."""
    expires_at: datetime | None = None
    balance: float | None = None


class GpuProvider(Protocol):
    """Lend machines. Every method may raise `ProviderAway` or `TokenRefused`."""

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        ...

    @property
    def settles(self) -> timedelta:
        """Return after how long `list_ours` surely shows a machine that was launched.

        Zero where a launch under the same lease returns the same machine, so that asking twice is once.
        """
        ...

    @property
    def traits(self) -> Traits:
        """Return what holds for every machine of this provider."""
        ...

    def standing(self) -> Standing:
        """Ask the provider whether our token is good for a launch; where it has none, return at once.

        Raises `TokenRefused` where it is not valid, lacks a right we need, or has ended.
        """
        ...

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what could be rented now; a price that is not known, or unknown in dollars, is None."""
        ...

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start the trainer under a lease and return the machine's name.

        The same lease again returns the same machine and starts nothing. Raises `LaunchRefused`.
        """
        ...

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is."""
        ...

    def logs(self, machine: str) -> str:
        """Return the last lines a machine wrote, "" where there are none or the provider keeps none."""
        ...

    def terminate(self, machine: str) -> None:
        """End a machine and all that runs on it; one that is gone already is no error."""
        ...

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every machine started by this installation that still costs or runs, also forgotten ones."""
        ...
