"""Say what we need of whoever lends a machine: offers, launch, status, terminate, and a list of what is ours.

A machine trains by running `python -m trainer run` with one ticket and speaks to nobody but the bucket. An
adapter only moves calls; who may be launched, and when a machine has to end, is decided by `leases` and
`reaper`, which hold for every provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol

from fleet_contracts.training import GpuOffer, Lease

MachineState = Literal["running", "ended", "gone"]


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


class GpuProvider(Protocol):
    """Lend machines. Every method may raise `ProviderAway`."""

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

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return what could be rented now."""
        ...

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start the trainer under a lease and return the machine's name.

        The same lease again returns the same machine and starts nothing. Raises `LaunchRefused`.
        """
        ...

    def status(self, machine: str) -> MachineStatus:
        """Return how a machine is."""
        ...

    def terminate(self, machine: str) -> None:
        """End a machine and all that runs on it; one that is gone already is no error."""
        ...

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every machine started by this installation that still costs or runs, also forgotten ones."""
        ...
