"""Make hosts whose trainer is a stub that does as it is told, and rig them for the contract."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus import sessions
from flows.gpus.settings import SshHost, SshSection
from flows.gpus.ssh import carried
from flows.gpus.ssh.provider import SshProvider
from flows.gpus.ssh.simulator import SimulatedHost
from flows.gpus.ssh.there import places
from flows.gpus.starting import CLAIM
from tests.flows.gpus.contract import INSTALLATION, RUN, Fault, Lack, Rig, Truth
from tests.helpers import program, wait_until

STUB = """
import os, pathlib, signal, subprocess, sys, time
here = pathlib.Path.cwd()
def end(*_):
    child.kill()
    child.wait()
    sys.exit(0)
child = subprocess.Popen([sys.executable, '-c', '''
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("child-was-asked").touch())
pathlib.Path("child-is-up").touch()
time.sleep(300)
'''])
signal.signal(signal.SIGTERM, end)
with (here / 'starts').open('a') as file:
    file.write(f'{os.getpid()} {child.pid}\\n')
while not (here / 'finish').exists():
    for path in here.glob('say-*'):
        print(path.read_text(), flush=True)
        path.unlink()
    time.sleep(0.02)
child.kill()
"""
"""Be a trainer: has a child and ends it first, says what lies in `say-*`, ends when `finish` is there."""
WRAPPER = """#!/bin/sh
export PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{stubs} PATH={place}/bin:$PATH
# One launch whose answer is held back until the connection is cut.
if [ "$1" = -c ] && mv {place}/lose-next {place}/losing 2>/dev/null; then
    {python} "$@" >{place}/answer
    touch {place}/held
    while [ ! -e {place}/cut ]; do sleep 0.02; done
    exit 0
fi
exec {python} "$@"
"""


class StubHost:
    """Be one simulated host with a folder, a prepared Python, and a lever that cuts a connection in mid-launch."""

    def __init__(
        self, place: Path, prepared: Sequence[str] = (*carried.PACKAGES, *carried.MODULES_NEEDED)
    ) -> None:
        program("sshd", "apt-get install openssh-server")
        program("ssh", "apt-get install openssh-client")
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self._cutter: threading.Thread | None = None
        python = place / "python3"
        paths = stubs(place / "stubs", prepared)
        python.write_text(WRAPPER.format(stubs=paths, place=place, python=bare_python(place / "bare")))
        python.chmod(0o755)
        self.host = SimulatedHost(place / "sshd", str(python))

    def settings(self, folder: Path, **more: object) -> SshHost:
        """Return the host's section."""
        return self.host.settings(folder, **more)

    def hold_next_answer(self) -> None:
        """Let the next call have its whole effect on the host and keep its answer back; `held` appears then."""
        for name in ("losing", "held", "cut"):
            (self.place / name).unlink(missing_ok=True)
        (self.place / "lose-next").touch()

    def let_go(self) -> None:
        """Drop every connection, and with them the answer that was held."""
        self.host.gate.cut()
        (self.place / "cut").touch()

    def lose_next_answer(self) -> None:
        """Hold the next call's answer, and cut its connection then."""
        self.hold_next_answer()
        self._cutter = threading.Thread(target=self._cut_when_held, daemon=True)
        self._cutter.start()

    def was_cut(self) -> bool:
        """Tell whether that happened."""
        assert self._cutter is not None
        self._cutter.join(20.0)
        return (self.place / "cut").exists()

    def _cut_when_held(self) -> None:
        deadline = time.monotonic() + 60.0
        while not (self.place / "held").exists():
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        self.let_go()

    def close(self) -> None:
        """End the sshd."""
        (self.place / "cut").touch()
        self.host.close()


def bare_python(place: Path) -> Path:
    """Return a Python with no package at all, as a new host has."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([base, "-m", "venv", "--without-pip", place], check=True)
    return place / "bin" / "python"


def stubs(place: Path, names: Sequence[str]) -> Path:
    """Make empty packages, and of `trainer` the stub."""
    for name in names:
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").touch()
        if name == "trainer":
            (place / name / "__main__.py").write_text(STUB)
    return place


class SshRig(Rig):
    """Pull the strings of a host; a second one comes in where somebody else's machine has to run beside ours."""

    lacks: Mapping[Lack, str] = {
        "rate-limit": "a host has no limit of calls",
        "unavailable": "a host answers or is silent",
        "lag": "a host's list is its processes",
    }
    shortest = timedelta(seconds=2)

    def __init__(self, place: Path, first: StubHost, second: StubHost) -> None:
        self.first, self.second = first, second
        self.folders = (place / "first", place / "second")
        hosts = (first.settings(self.folders[0]), second.settings(self.folders[1]))
        self.section = SshSection(kind="ssh", hosts=hosts)
        self._provider = SshProvider("boxes", SshSection(kind="ssh", hosts=hosts[:1]), INSTALLATION, place)
        self._others = SshProvider("boxes", self.section, "plant8", place)
        self.place = place
        self.secrets = (_secret_of(first.host.key_file), _secret_of(second.host.key_file))
        self._began = 0
        self._denied = 0
        self._busy = ""
        self._offers: tuple[GpuOffer, ...] = ()

    @property
    def provider(self) -> SshProvider:
        """Return the adapter."""
        return self._provider

    def both(self) -> SshProvider:
        """Let the adapter know the second host too, and return it."""
        self._provider = SshProvider("boxes", self.section, INSTALLATION, self.place)
        return self._provider

    def truth(self) -> tuple[Truth, ...]:
        """Return what the folders and processes of both hosts say."""
        found = []
        for folder, host in zip(self.folders, (self.first, self.second), strict=True):
            living = {one.tag for one in places.living(folder)}
            name = f"127.0.0.1:{host.host.gate.port}"
            found += [Truth(f"{name}/{one.tag}", one.tag in living) for one in places.all_places(folder)]
        return tuple(found)

    def environment(self, machine: str) -> Mapping[str, str]:
        """Return the environment of the trainer's process, without what the login gave."""
        path = Path(f"/proc/{self.pid(machine)}/environ")
        wait_until(lambda: CLAIM.encode() in path.read_bytes(), 20, "the trainer to be started")
        pairs = [one.partition("=") for one in path.read_bytes().decode().split("\0") if one]
        return {name: value for name, _, value in pairs}

    def finish(self, machine: str) -> None:
        """Let the stub end."""
        (self.work() / "finish").touch()
        session = self.of(machine).session()
        wait_until(lambda: not sessions.is_alive(session), 20, "the stub to end")

    def take_away(self, machine: str) -> None:
        """Kill every process of a machine, as a reboot would."""
        session = self.of(machine).session()
        assert session is not None
        sessions.end_all(session, 0.0)

    def arm(self, fault: Fault) -> None:
        """Begin a fault, on both hosts or on the first."""
        self.calm()
        gates = (self.first.host.gate, self.second.host.gate)
        self._began = sum(gate.hits for gate in gates)
        self._denied = 0
        self._denied = self._denials()
        if fault in ("silence", "garbage"):
            for gate in gates:
                gate.weather = "silence" if fault == "silence" else "garbage"
        elif fault == "lost-answer":
            self.first.lose_next_answer()
        elif fault == "wrong-token":
            self.first.host.revoke()
            self.second.host.revoke()
        elif fault == "no-capacity":
            lease = lease_of(self._others, 7, run="run-00000000000000ff")
            self._busy = self._others.launch(lease, self.place / "ticket.json")

    def fired(self, fault: Fault) -> int:
        """Return how often it hit."""
        if fault == "lost-answer":
            return int(self.first.was_cut())
        if fault == "no-capacity":
            return int(self._others.status(self._busy).state == "running")
        if fault == "wrong-token":
            # The sshd writes its log after the caller has gone.
            wait_until(lambda: self._denials() > 0, 20, "the sshd to tell of a refused key")
        return sum(one.host.gate.hits for one in (self.first, self.second)) + self._denials() - self._began

    def calm(self) -> None:
        """End every fault."""
        for one in (self.first, self.second):
            one.host.gate.weather = "calm"
            one.host.authorize()
        if self._busy:
            self._others.terminate(self._busy)
            self._busy = ""

    def says(self, machine: str, line: str) -> None:
        """Have the stub write a line."""
        path = self.work() / "say-it"
        wait_until(self.work().is_dir, 20, "the stub's folder")
        path.with_suffix(".part").write_text(line)
        path.with_suffix(".part").rename(path)
        wait_until(lambda: not path.exists(), 20, "the line to be written")

    def foreign(self) -> tuple[str, ...]:
        """Run another installation's machine on the second host."""
        self.both()
        lease = lease_of(self._others, 9, run="run-00000000000000ff", offer=self.offer_of(1))
        return (self._others.launch(lease, self.place / "ticket.json"),)

    def shown(self) -> str:
        """Return what anybody on the hosts can see: command lines of all processes, sshds' logs, our folders."""
        texts = [self.first.host.log(), self.second.host.log(), command_lines()]
        for folder in self.folders:
            texts += [
                f"{path} {path.read_text(errors='replace')}" for path in folder.rglob("*") if path.is_file()
            ]
        return "\n".join(texts)

    def advance(self, time_: timedelta) -> None:
        """Wait."""
        time.sleep(time_.total_seconds())

    def close(self) -> None:
        """End every machine of everybody, and its guard."""
        self.calm()
        for folder in self.folders:
            for one in places.all_places(folder):
                end_with_guard(one)

    def offer_of(self, number: int) -> GpuOffer:
        """Return what one of the hosts offered when both were free."""
        if not self._offers:
            self._offers = self._others.offers()
        return self._offers[number]

    def work(self) -> Path:
        """Return the trainer's folder on the first host."""
        return self.folders[0] / "work"

    def of(self, machine: str) -> places.Place:
        """Return a machine's state folder, wherever it is."""
        tag = machine.rpartition("/")[2]
        return next(one for folder in self.folders for one in places.all_places(folder) if one.tag == tag)

    def pid(self, machine: str) -> int:
        """Return the trainer's process."""
        session = self.of(machine).session()
        assert session is not None
        return session.pid

    def _denials(self) -> int:
        return sum(one.host.log().count("[preauth]") for one in (self.first, self.second)) - self._denied


def end_with_guard(place: places.Place) -> None:
    """End a machine and wait for its guard."""
    if not (place.read("guard") or {}).get("done"):
        places.end(place, 0.0)
    guard = place.session("guard")
    wait_until(lambda: not sessions.is_alive(guard), 30, "the guard to end")


def wait_for_end(provider: SshProvider, machine: str, seconds: float = 60.0) -> None:
    """Wait for a machine to end by itself."""
    wait_until(lambda: provider.status(machine).state == "ended", seconds, f"{machine} to end")


def lease_of(provider: SshProvider, number: int, *, run: str = RUN, offer: GpuOffer | None = None) -> Lease:
    """Return a recorded lease on an offer of a provider, the first one by default."""
    chosen = offer or provider.offers()[0]
    return Lease(
        task_id="plates", lease_id=f"lease-{number:016x}", run_id=run, provider=provider.name, offer=chosen,
        price_cap=0.0, deadline=utc_now() + timedelta(hours=1), state="recorded", recorded_at=utc_now(),
    )  # fmt: skip


def command_lines() -> str:
    """Return the command line of every process of this machine that may be read."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def _secret_of(key_file: Path) -> str:
    """Return a line from the middle of a private key."""
    return key_file.read_text().splitlines()[2]
