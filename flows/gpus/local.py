"""Lend this machine: the trainer as a detached process that outlives flow, worker and supervisor.

    <folder>/machines/<lease>/machine.json    run, process id and start, written by the process itself
    <folder>/machines/<lease>/trainer.log
    <folder>/work/<run>/                      the trainer's folder, kept over attempts
    <folder>/work/<run>.lock                  held as long as a trainer of this run lives

The started process takes the lock, writes its own name down and becomes the trainer. So whoever launches
again - after any crash - sees whether one lives, and a run never has two.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus import sessions, this_machine
from flows.gpus.base import LOG_LINES, Ending, Machine, MachineStatus, Standing, Traits
from flows.gpus.errors import LaunchRefused

NAME = "this-machine"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_TRAINER = ("-m", "trainer", "run")


class LocalProvider:
    """Run trainers on this machine.

    Args:
        folder: the installation's.
        command: replaces the trainer's command line in tests.
        hidden: names of environment variables that trainers do not get, such as other providers' tokens.
    """

    def __init__(self, folder: Path, *, command: tuple[str, ...] = (), hidden: Iterable[str] = ()) -> None:
        self._folder = folder.resolve()
        self._hidden = frozenset(hidden)
        self._command = command or (sys.executable, *_TRAINER)

    @property
    def name(self) -> str:
        """Return the name that leases carry."""
        return NAME

    @property
    def settles(self) -> timedelta:
        """Return zero: the same lease gives the same machine."""
        return timedelta(0)

    @property
    def traits(self) -> Traits:
        """Return those of a machine that is ours and costs nothing."""
        return Traits(Ending("own-process", "the trainer is a process of this machine"), elsewhere=False)

    def standing(self) -> Standing:
        """Return at once: this machine asks for no token."""
        return Standing(platform.node())

    def offers(self) -> tuple[GpuOffer, ...]:
        """Return this machine, for nothing: its processor, and its cards if it has some."""
        processor = GpuOffer(
            provider=NAME,
            offer_id="local",
            gpu="cpu",
            gpu_count=0,
            gpu_memory_mib=0,
            on_demand_price=0.0,
            region=platform.node(),
            price_source="own",
            priced_at=utc_now(),
            cpu_count=this_machine.cores(),
            memory_mib=this_machine.memory_mib(),
            disk_mib=this_machine.disk_mib(self._folder),
        )
        cards = this_machine.cards()
        if cards is None:
            return (processor,)
        seen = {"gpu": cards.name, "gpu_count": cards.count, "gpu_memory_mib": cards.memory_mib}
        return (processor.model_copy(update={**seen, "offer_id": "local-gpu"}), processor)

    def launch(self, lease: Lease, ticket: Path) -> str:
        """Start the trainer, or find the one that was started under this lease before.

        Raises:
            LaunchRefused: another lease's trainer works on the run, or the process did not come up.
        """
        place = self._place(lease.lease_id)
        if sessions.is_alive(self._session(lease.lease_id)):
            return lease.lease_id
        place.mkdir(parents=True, exist_ok=True)
        (place / "machine.json").unlink(missing_ok=True)
        child = self._start(lease, ticket, place)
        deadline = time.monotonic() + START_SECONDS
        while self._session(lease.lease_id) is None:
            if child.poll() is not None or time.monotonic() > deadline:
                child.kill()
                raise LaunchRefused(
                    expected=f"a trainer of {lease.run_id} to come up within {START_SECONDS:.0f} s",
                    got=f"exit code {child.wait()}",
                    where=str(place / "trainer.log"),
                    now="Read that log; if another trainer holds the run, it has to end first.",
                )
            time.sleep(0.02)
        return lease.lease_id

    def status(self, machine: str) -> MachineStatus:
        """Return whether the trainer's process lives."""
        session = self._session(machine)
        if session is None:
            return MachineStatus("gone")
        return MachineStatus("running" if sessions.is_alive(session) else "ended", f"process {session.pid}")

    def terminate(self, machine: str) -> None:
        """End the trainer and every process it started."""
        session = self._session(machine)
        if session is not None:
            sessions.end_all(session, STOP_SECONDS)

    def list_ours(self) -> tuple[Machine, ...]:
        """Return the leases under which any process still runs, the trainer itself or what it left behind."""
        return tuple(
            Machine(lease_id, lease_id) for lease_id, session in self._known() if sessions.members(session)
        )

    def logs(self, machine: str) -> str:
        """Return the end of the trainer's log."""
        path = self.log_of(machine)
        if not path.is_file():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def log_of(self, machine: str) -> Path:
        """Return where a machine's output lies."""
        return self._place(machine) / "trainer.log"

    def _place(self, lease_id: str) -> Path:
        return self._folder / "machines" / lease_id

    def _session(self, lease_id: str) -> sessions.Session | None:
        return sessions.read(self._place(lease_id) / "machine.json")

    def _known(self) -> Iterator[tuple[str, sessions.Session]]:
        for path in sorted((self._folder / "machines").glob("*/machine.json")):
            session = sessions.read(path)
            if session is not None:
                yield path.parent.name, session

    def _start(self, lease: Lease, ticket: Path, place: Path) -> subprocess.Popen[bytes]:
        work = self._folder / "work" / lease.run_id
        work.mkdir(parents=True, exist_ok=True)
        # One cache for all runs of this machine: snapshots share their shards.
        cache = self._folder / "trainer-cache"
        inner = (*self._command, "--ticket", str(ticket), "--work", str(work), "--cache", str(cache))
        request = {
            "lock": str(work.with_name(f"{lease.run_id}.lock")),
            "machine": str(place / "machine.json"),
            "run_id": lease.run_id,
            "command": inner,
        }
        with (place / "trainer.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.gpus.become", json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=work,
                env=_environment(self._hidden),
            )


def _environment(hidden: frozenset[str]) -> dict[str, str]:
    """Return the trainer's environment: ours, without the flow's own part and without what is hidden."""
    above = str(Path(__file__).resolve().parents[2])
    paths = [above, *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path != above)]
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PREFECT_") and key not in hidden
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONUNBUFFERED": "1"}
