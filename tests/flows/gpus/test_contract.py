"""Hold the provider that ships in memory to the adapters' contract, and the contract to what it should find."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.database import Database
from flows.gpus.base import Ending, Machine, MachineStatus, Standing
from flows.gpus.errors import ProviderAway
from flows.gpus.leases import LeaseBook
from flows.gpus.memory import MemoryProvider
from flows.gpus.starting import start_of
from tests.flows.gpus import contract
from tests.flows.gpus.contract import Fault, Lack, ProviderContract, Rig, Truth

SETTLES = timedelta(seconds=30)


class LaggingProvider(MemoryProvider):
    """Be a seller in memory whose list lags and whose answers get lost, as those of many do."""

    def __init__(self, clock: list[datetime]) -> None:
        offer = GpuOffer(
            provider="memory", offer_id="a", gpu="T4", gpu_count=1, gpu_memory_mib=16384, on_demand_price=0.5,
            region="here", price_source="the test", priced_at=clock[0],
        )  # fmt: skip
        super().__init__(offer)
        self.ending = Ending("server-deadline", "the test's clock")
        self.clock = clock
        self.began: dict[str, tuple[datetime, Lease]] = {}
        self.loses = self.lags = False
        self.fired = 0

    @property
    def settles(self) -> timedelta:
        """Return how long the list may lag."""
        return SETTLES

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Launch, and lose the answer if told to."""
        self.fired += bool(self.refusal) and not self.is_away
        machine = super().launch(lease, ticket)
        self.began.setdefault(machine, (self.clock[0], lease))
        if self.loses:
            self.loses = False
            self.fired += 1
            raise ProviderAway(expected="an answer", got="none", where=self.name)
        return machine

    def standing(self) -> Standing:
        """Return how we stand."""
        self.fired += bool(self.token_refusal)
        return super().standing()

    def list_ours(self) -> tuple[Machine, ...]:
        """Return what the list shows already."""
        if not self.lags:
            return super().list_ours()
        self.fired += 1
        return tuple(
            one for one in super().list_ours() if self.began[one.machine][0] + SETTLES <= self.clock[0]
        )

    def _answer(self) -> None:
        self.fired += self.is_away
        super()._answer()


class MemoryRig(Rig):
    """Pull the strings of the seller in memory."""

    lacks: Mapping[Lack, str] = {
        "rate-limit": "memory is away in one way only",
        "unavailable": "memory is away in one way only",
        "garbage": "memory is away in one way only",
        "wrong-token": "memory takes any",
        "foreign": "memory has no accounts",
        "shown": "memory shows nothing",
    }

    def __init__(self) -> None:
        self.clock = [utc_now()]
        self.seller = LaggingProvider(self.clock)

    @property
    def provider(self) -> MemoryProvider:
        """Return the seller, which is its own adapter."""
        return self.seller

    def truth(self) -> tuple[Truth, ...]:
        """Return its machines."""
        return tuple(Truth(name, name in self.seller.machines) for name in self.seller.states)

    def environment(self, machine: str) -> Mapping[str, str]:
        """Return what an adapter would have passed on."""
        lease = self.seller.began[machine][1]
        tickets = dict(self.seller.launches)
        return start_of(lease, tickets[lease.lease_id], "image").environment

    def finish(self, machine: str) -> None:
        """End a machine."""
        del self.seller.machines[machine]
        self.seller.states[machine] = MachineStatus("ended", "by itself")

    take_away = finish

    def arm(self, fault: Fault) -> None:
        """Begin a fault."""
        self.seller.fired = 0
        self.seller.is_away = fault == "silence"
        self.seller.loses = fault == "lost-answer"
        self.seller.lags = fault == "lag"
        self.seller.refusal = "none left" if fault == "no-capacity" else ""

    def fired(self, fault: Fault) -> int:
        """Return how often it hit."""
        return self.seller.fired

    def calm(self) -> None:
        """End every fault."""
        self.seller.is_away = self.seller.loses = self.seller.lags = False
        self.seller.refusal = ""

    def says(self, machine: str, line: str) -> None:
        """Write a line."""
        self.seller.output[machine] = line

    def now(self) -> datetime:
        """Return the clock."""
        return self.clock[0]

    def advance(self, time: timedelta) -> None:
        """Let time pass, and leases end."""
        self.clock[0] += time
        for machine in list(self.seller.machines):
            if self.seller.began[machine][1].deadline <= self.clock[0]:
                self.finish(machine)


class TestMemoryContract(ProviderContract):
    """Hold the provider in memory to the contract."""

    @pytest.fixture
    def rig(self) -> Rig:
        """Return a fresh one."""
        return MemoryRig()


class _Greedy(LaggingProvider):
    """Start a machine for each call, though the list would have shown the first."""

    def launch(self, lease: Lease, ticket: Path) -> str:
        super().launch(lease, ticket)
        name = f"m-{len(self.machines)}-{lease.lease_id}"
        self.began[name] = (self.clock[0], lease)
        self.machines[name] = Machine(name, lease.lease_id)
        self.states[name] = MachineStatus("running")
        return name


class _Undying(LaggingProvider):
    """Say of ended machines that they end, and keep them."""

    def terminate(self, machine: str) -> None:
        self._answer()


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (_Greedy, "test_same_lease_has_one_machine"),
        (_Greedy, "test_from_launch_to_end"),
        (_Undying, "test_terminate_is_patient"),
    ],
)
def test_contract_finds_broken_adapters(
    kind: type[LaggingProvider], test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters that pay twice, or leave machines behind, do not pass."""
    rig = MemoryRig()
    rig.seller.__class__ = kind
    monkeypatch.setattr(contract, "PATIENCE", 0.2)
    database = Database.open(f"sqlite:///{tmp_path / 'leases.db'}")
    ticket = contract.write_ticket(tmp_path / "ticket.json")
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(ProviderContract(), test)(rig, LeaseBook(database, rig.now), ticket)
    database.close()
