"""Find the processes of a running demo and kill them, so that a test can say which it hit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psutil

from flows.up.processes import ProcessName, end, is_alive, name_of
from flows.up.state import read_state
from tests.helpers import ROOT, wait_until

KEPT = ("", "demo/keeper", "demo/boxes", "demo/lines")
"""Folders in which a supervisor of the demo tells what it runs."""
BY_COMMAND = {
    "trainer": "trainer run",
    "trainer-child": "trainer.ultralytics_backend.child",
}


def start_demo(folder: Path, settings: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the demo as a process of its own."""
    command = [sys.executable, "-m", "demo.loop", "--folder", str(folder), "--settings", str(settings), "--no-random"]
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def victims(folder: Path, demo: subprocess.Popen[bytes]) -> dict[str, ProcessName]:
    """Return every process of the demo that runs now, by kind."""
    found: dict[str, ProcessName] = {}
    for place in KEPT:
        state = read_state(folder / place)
        for name, service in (state.services if state else {}).items():
            process = ProcessName(service.pid, service.start_ticks)
            if service.pid and is_alive(process):
                found[name] = process
    found |= _by_command(folder, found.get("worker"))
    own = name_of(demo.pid)
    if own is not None:
        found["demo"] = own
    return found


def _by_command(folder: Path, worker: ProcessName | None) -> dict[str, ProcessName]:
    found: dict[str, ProcessName] = {}
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        text = " ".join(process.info["cmdline"] or ())
        kinds = [kind for kind, part in BY_COMMAND.items() if part in text and str(folder) in text]
        if worker is not None and process.info["ppid"] == worker.pid and "prefect" in text:
            kinds.append("flow")
        name = name_of(process.info["pid"]) if kinds else None
        if name is not None:
            found[kinds[0]] = name
    return found


class Killer:
    """Kill one process after the other, the kinds hit least first, and count what was hit.

    Kills are kept back for kinds that were not met yet: a trainer runs only at the end.
    """

    def __init__(self, kills: int, kinds: set[str]) -> None:
        self.hits: Counter[str] = Counter()
        self._kills = kills
        self._kinds = kinds

    @property
    def left(self) -> int:
        """Return how many kills are still to be made."""
        return self._kills - self.hits.total()

    def kill_one(self, alive: dict[str, ProcessName]) -> str | None:
        """Kill the process of the kind that was hit least; fail if it survives."""
        kind = min(sorted(alive), key=lambda one: (self.hits[one], one))
        if self.hits[kind] and self.left <= len(self._kinds - set(self.hits)):
            return None
        assert end(alive[kind], signal.SIGKILL), f"the kill of {kind} found nobody"
        wait_until(lambda: not is_alive(alive[kind]), 10, f"the death of {kind}")
        self.hits[kind] += 1
        return kind
