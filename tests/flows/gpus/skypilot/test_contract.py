"""Hold the SkyPilot adapter to the adapters' contract, against the simulated server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.gpus.settings import SkypilotSection
from flows.gpus.skypilot import simulator as simulated
from flows.gpus.skypilot.client import Pace
from flows.gpus.skypilot.provider import SkypilotProvider
from flows.gpus.skypilot.simulated_clusters import SimulatedCluster
from flows.gpus.skypilot.simulator import Simulator
from flows.gpus.tags import tag_of
from tests.flows.gpus.contract import INSTALLATION, Fault, Lack, ProviderContract, Rig, Truth

TOKEN = "sky_eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.9f86d081884c7d65"
PACE = Pace(quick=30.0, asking=30.0, ending=30.0)


class SkypilotRig(Rig):
    """Pull the strings of a simulated SkyPilot server."""

    secrets = (TOKEN,)
    lacks: Mapping[Lack, str] = {
        "lag": "the server lists from its own database, where a launch stands before it is answered",
    }

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.simulator = simulator
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        self.section = SkypilotSection(
            kind="skypilot", url=simulator.url, token="file:token", account_on_machines=True
        )
        self._provider = SkypilotProvider("sky", self.section, INSTALLATION, folder, PACE)

    @property
    def provider(self) -> SkypilotProvider:
        """Return the adapter."""
        return self._provider

    def truth(self) -> tuple[Truth, ...]:
        """Return every cluster; one that is listed costs, whatever its state."""
        with self.simulator.lock:
            self.simulator.machines.settle()
            return tuple(Truth(name, True) for name in self.simulator.machines.clusters)

    def environment(self, machine: str) -> Mapping[str, str]:
        """Return what the task set."""
        return self.simulator.machines.clusters[machine].environment

    def finish(self, machine: str) -> None:
        """End the job."""
        with self.simulator.lock:
            self.simulator.machines.finish(machine)

    def arm(self, fault: Fault) -> None:
        """Begin a fault."""
        self.simulator.fired = self.simulator.machines.refused = 0
        self.simulator.machines.has_capacity = fault != "no-capacity"
        self.simulator.fault = "" if fault == "no-capacity" else fault

    def fired(self, fault: Fault) -> int:
        """Return how often it hit."""
        return self.simulator.machines.refused if fault == "no-capacity" else self.simulator.fired

    def calm(self) -> None:
        """End every fault."""
        self.simulator.fault, self.simulator.machines.has_capacity = "", True

    def says(self, machine: str, line: str) -> None:
        """Have the job write a line."""
        self.simulator.machines.clusters[machine].output.append(line)

    def take_away(self, machine: str) -> None:
        """Have the cloud take the machine; SkyPilot drops its record when it looks."""
        with self.simulator.lock:
            del self.simulator.machines.clusters[machine]

    def foreign(self) -> tuple[str, ...]:
        """Make a person's cluster and another installation's."""
        names = ("notebook", tag_of("plant8", "lease-00000000000000aa"))
        for name in names:
            self.simulator.machines.clusters[name] = SimulatedCluster(name, {}, "UP", True, "RUNNING", 1)
        return names

    def shown(self) -> str:
        """Return the server's log and its records."""
        records = [one.record() for one in self.simulator.machines.clusters.values()]
        return "\n".join([*self.simulator.seen, *map(str, records)])

    def now(self) -> datetime:
        """Return the clouds' clock."""
        return self.simulator.machines.now()

    def advance(self, time: timedelta) -> None:
        """Let time pass, and the idle minutes by which a machine outlives its program."""
        with self.simulator.lock:
            self.simulator.machines.passed += time + timedelta(minutes=self.section.idle_minutes)


class TestSkypilotContract(ProviderContract):
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        with simulated.running(TOKEN) as simulator:
            yield SkypilotRig(tmp_path, simulator)
