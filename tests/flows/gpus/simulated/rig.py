"""Pull the strings of a simulated cloud whose machines run a small program in place of the trainer."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus import sessions
from flows.gpus.base import Machine, MachineStatus
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.settings import SimulatedSection
from flows.gpus.simulated.cloud import TAKEN_AWAY, Instance, Order
from flows.gpus.simulated.provider import SimulatedProvider
from flows.up.processes import ProcessName
from tests.flows.gpus.contract import INSTALLATION, Fault, Lack, Rig, Truth
from tests.helpers import wait_until

GUEST = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(300)'])
said = 0
pathlib.Path('up').touch()
while True:
    lines = pathlib.Path('say').read_text().splitlines() if pathlib.Path('say').exists() else []
    for line in lines[said:]:
        print(line, flush=True)
    said = len(lines)
    time.sleep(0.02)
"""
"""Has a child, as the trainer has, and writes what it is told to."""
COMMAND = (sys.executable, "-S", "-c", GUEST)
SECONDS = 20.0


def section(**changes: object) -> SimulatedSection:
    """Return settings of a cloud that boots at once."""
    return SimulatedSection.model_validate({"kind": "simulated", "boot_seconds": 0.0, **changes})


class StormyProvider(SimulatedProvider):
    """Lose answers, be away, have nothing left, where a test wants it: files of this host never do."""

    fault: Fault | None = None
    hits = 0

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Launch, or not."""
        self._before()
        if self.fault == "no-capacity":
            self.hits += 1
            raise LaunchRefused(expected="a machine", got="none left", where=self.name)
        machine = super().launch(lease, ticket)
        if self.fault == "lost-answer":
            self.fault, self.hits = None, self.hits + 1
            raise ProviderAway(expected="an answer", got="none", where=self.name)
        return machine

    def offers(self) -> tuple[GpuOffer, ...]:
        """Offer, or be away."""
        self._before()
        return super().offers()

    def status(self, machine: str) -> MachineStatus:
        """Answer, or be away."""
        self._before()
        return super().status(machine)

    def logs(self, machine: str) -> str:
        """Answer, or be away."""
        self._before()
        return super().logs(machine)

    def terminate(self, machine: str) -> None:
        """End it, or be away."""
        self._before()
        super().terminate(machine)

    def list_ours(self) -> tuple[Machine, ...]:
        """Answer, or be away."""
        self._before()
        return super().list_ours()

    def _before(self) -> None:
        if self.fault == "silence":
            self.hits += 1
            raise ProviderAway(expected="an answer", got="none", where=self.name)


class SimulatedRig(Rig):
    """Be the rig of a cloud in a folder."""

    quiet = frozenset({"standing"})
    lacks: Mapping[Lack, str] = {
        "rate-limit": "the simulated cloud counts no calls",
        "unavailable": "the simulated cloud is away in one way only",
        "garbage": "the simulated cloud is asked without a document",
        "wrong-token": "the simulated cloud asks for none",
        "lag": "the simulated cloud's list is its books",
    }
    shortest = timedelta(seconds=1.5)

    def __init__(self, folder: Path, *, command: tuple[str, ...] = COMMAND, **changes: object) -> None:
        self.folder = folder
        self.seller = StormyProvider("cloud", section(**changes), INSTALLATION, folder, command=command)

    @property
    def provider(self) -> StormyProvider:
        """Return the adapter."""
        return self.seller

    def truth(self) -> tuple[Truth, ...]:
        """Return every machine, and whether any process of it runs or it is billed."""
        return tuple(
            Truth(one.name, one.runs or bool(self.processes(one.name)))
            for one in self.seller.cloud.instances()
        )

    def processes(self, machine: str) -> tuple[ProcessName, ...]:
        """Return every process on a machine; its host is the seller's."""
        host = sessions.read(self.seller.cloud.folder(machine) / "host.json")
        found = sessions.members(host) if host is not None else ()
        return tuple(one for one in found if host is None or one.pid != host.pid)

    def guest(self, machine: str) -> int:
        """Return the process of a machine's program once it is up."""
        disk = self.seller.cloud.disk(machine)
        wait_until((disk / "up").exists, SECONDS, "the machine's program to be up")
        host = sessions.read(self.seller.cloud.folder(machine) / "host.json")
        assert host is not None
        return next(one.pid for one in self.processes(machine) if parent_of(one.pid) == host.pid)

    def environment(self, machine: str) -> Mapping[str, str]:
        """Return what the kernel says the program was started with."""
        content = Path(f"/proc/{self.guest(machine)}/environ").read_bytes().decode()
        return dict(entry.split("=", 1) for entry in content.split("\0") if entry)

    def finish(self, machine: str) -> None:
        """End the program alone."""
        os.kill(self.guest(machine), signal.SIGTERM)
        wait_until(lambda: not self.instance(machine).runs, SECONDS, "the machine to see its program end")

    def instance(self, machine: str) -> Instance:
        """Return what the cloud's books say of a machine."""
        found = self.seller.cloud.find(machine)
        assert found is not None
        return found

    def arm(self, fault: Fault) -> None:
        """Begin a fault."""
        self.seller.fault, self.seller.hits = fault, 0

    def fired(self, fault: Fault) -> int:
        """Return how often it hit."""
        return self.seller.hits

    def calm(self) -> None:
        """End every fault."""
        self.seller.fault = None

    def says(self, machine: str, line: str) -> None:
        """Have the program write a line."""
        self.guest(machine)
        with (self.seller.cloud.disk(machine) / "say").open("a") as file:
            file.write(f"{line}\n")

    def take_away(self, machine: str) -> None:
        """Have the cloud take a machine."""
        self.seller.cloud.pull_plug(machine, TAKEN_AWAY)

    def foreign(self) -> tuple[str, ...]:
        """Put machines of others beside ours."""
        names = ("somebody-else", "ws-plant8-0123456789abcdef")
        until = utc_now() + timedelta(hours=1)
        for name in names:
            order = Order(name=name, region="east", spot=False, price=1.0, ordered_at=utc_now(), until=until)
            self.seller.cloud.keep(order)
        return names

    def shown(self) -> str:
        """Return the books, the hosts' logs, and the command lines of all that runs."""
        files = [path for path in self.seller.cloud.place.rglob("*") if path.is_file()]
        kept = [path.read_text(errors="replace") for path in files if "disk" not in path.parts]
        hosts = (sessions.read(path) for path in self.seller.cloud.place.glob("*/host.json"))
        running = [one for host in hosts if host is not None for one in sessions.members(host)]
        lines = [Path(f"/proc/{one.pid}/cmdline").read_text().replace("\0", " ") for one in running]
        return "\n".join((*kept, *lines))

    def advance(self, time_: timedelta) -> None:
        """Wait: the cloud's clock is the real one."""
        time.sleep(time_.total_seconds())

    def clean(self) -> None:
        """End every machine there is."""
        for one in self.seller.cloud.instances():
            self.seller.cloud.pull_plug(one.name, "the test is over")


def parent_of(pid: int) -> int:
    """Return a process's parent, 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])
