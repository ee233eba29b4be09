"""Lend machines that exist in memory only: for tests of everything above the port."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.base import Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused, ProviderAway, TokenRefused


class MemoryProvider:
    """Be a provider whose weather the caller makes: away, refusing, losing machines."""

    def __init__(self, *offers: GpuOffer, name: str = "memory") -> None:
        self._name = name
        self._offers = offers
        self.machines: dict[str, Machine] = {}
        self.states: dict[str, MachineStatus] = {}
        self.launches: list[tuple[str, Path]] = []
        self.is_away = False
        self.refusal = ""
        self.token_refusal = ""
        self.balance: float | None = None
        self.output: dict[str, str] = {}
        self.ending = Ending("own-process", "it exists in memory only")
        self.elsewhere = False

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return self._name

    @property
    def settles(self) -> timedelta:
        """Return zero: the same lease gives the same machine."""
        return timedelta(0)

    @property
    def traits(self) -> Traits:
        """Return what it was told to say of itself."""
        return Traits(self.ending, elsewhere=self.elsewhere)

    def standing(self) -> Standing:
        """Return the balance it was given, or refuse the token as it was told to."""
        self._answer()
        if self.token_refusal:
            raise TokenRefused(expected="a token that is good", got=self.token_refusal, where=self._name)
        return Standing(self._name, balance=self.balance)

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return the offers it was made with."""
        self._answer()
        return self._offers

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Note a machine for the lease; the same lease again returns the same machine."""
        self._answer()
        if self.refusal:
            raise LaunchRefused(expected="a machine", got=self.refusal, where=self._name)
        machine = f"m-{lease.lease_id}"
        if machine not in self.machines:
            self.launches.append((lease.lease_id, ticket))
            self.machines[machine] = Machine(machine, lease.lease_id)
            self.states[machine] = MachineStatus("running")
        return machine

    def status(self, machine: str) -> MachineStatus:
        """Return the state last set for a machine."""
        self._answer()
        return self.states.get(machine, MachineStatus("gone"))

    def logs(self, machine: str) -> str:
        """Return the output set for a machine."""
        self._answer()
        return self.output.get(machine, "")

    def terminate(self, machine: str) -> None:
        """Note that a machine ended."""
        self._answer()
        if self.machines.pop(machine, None) is not None:
            self.states[machine] = MachineStatus("ended", "terminated")

    def list_ours(self) -> tuple[Machine, ...]:
        """Return every machine that was not terminated."""
        self._answer()
        return tuple(self.machines.values())

    def _answer(self) -> None:
        if self.is_away:
            raise ProviderAway(expected="an answer", got="none", where=self._name)
