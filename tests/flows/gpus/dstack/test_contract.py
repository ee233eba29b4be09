"""Hold the dstack adapter to the contract of every provider, against a simulator of dstack's server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from flows.gpus.dstack.provider import DstackProvider
from flows.gpus.dstack.shapes import Row
from flows.gpus.dstack.simulated_account import Fleet, Run
from flows.gpus.dstack.simulator import DstackSimulator
from flows.gpus.settings import DstackSection
from tests.flows.gpus.contract import INSTALLATION, Fault, Lack, ProviderContract, Rig, Truth

TOKEN = "f3a1b0d2-dstack-t0ken"


class DstackRig(Rig):
    """Be a dstack server with one project, and the adapter that rents there."""

    secrets = (TOKEN,)
    lacks: Mapping[Lack, str] = {"lag": "dstack lists what is in its database, at once"}

    def __init__(self, folder: Path, simulator: DstackSimulator) -> None:
        (folder / "dstack.token").write_text(TOKEN)
        (folder / "dstack.token").chmod(0o600)
        self.simulator = simulator
        section = DstackSection(kind="dstack", url=simulator.url, token="file:dstack.token", outlives_us=True)
        self._provider = DstackProvider("clouds", section, INSTALLATION, folder, now=self.now)

    @property
    def provider(self) -> DstackProvider:
        return self._provider

    def truth(self) -> tuple[Truth, ...]:
        return tuple(Truth(run.name, run.costs) for run in self.simulator.look().runs.values())

    def environment(self, machine: str) -> Mapping[str, str]:
        return self._run(machine).environment

    def finish(self, machine: str) -> None:
        self._run(machine).end("done", "all_jobs_done", "done_by_runner")

    def arm(self, fault: Fault) -> None:
        self.simulator.arm(fault)

    def fired(self, fault: Fault) -> int:
        return self.simulator.hits[fault]

    def calm(self) -> None:
        self.simulator.calm()

    def says(self, machine: str, line: str) -> None:
        self._run(machine).lines.append(line)

    def take_away(self, machine: str) -> None:
        self._run(machine).end("failed", "job_failed", "interrupted_by_no_capacity")

    def foreign(self) -> tuple[str, ...]:
        account, names = self.simulator.account, ("somebodys-task", "ws-plant8-00112233aabbccdd")
        for name in names:
            configuration = {"name": name, "fleets": [name], "env": {}}
            account.fleets[name] = Fleet({"configuration": {"name": name}}, account.clock())
            account.apply({"run_name": name, "configuration": configuration})
        self.simulator.look()
        return names

    def shown(self) -> str:
        """Return requests as a proxy logs them, without the value of the secret that keeps the claim."""
        told = []
        for one in self.simulator.seen:
            body = json.loads(one.body)
            if one.path.endswith("/secrets/create_or_update"):
                body["value"] = "..."
            told.append(f"{one.path} {json.dumps(body)}")
        return "\n".join(told)

    def now(self) -> datetime:
        return self.simulator.account.clock()

    def advance(self, time: timedelta) -> None:
        self.simulator.advance(time)

    def _run(self, machine: str) -> Run:
        return self.simulator.look().runs[machine]


class TestDstackContract(ProviderContract):
    """Run every test of the contract."""

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[DstackRig]:
        with DstackSimulator(TOKEN) as simulator:
            simulator.rows.insert(0, Row("aws", "us-west-2", "g5.xlarge", "A10G", 24576, 1.006))
            yield DstackRig(tmp_path, simulator)
