"""Find and kill the demo's processes by what they do, and know that the kill has hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers import ROOT, wait_until

KINDS = {
    "demo": ("flows.cli", "demo", "--folder"),
    "up": ("-m flows.up --folder",),
    "store": ("serve s3",),
    "releases": ("serve http",),
    "broker": ("mosquitto", "flows.up.small_broker"),
    "prefect": ("prefect server start", "prefect.server"),
    "worker": ("prefect worker start",),
    "ingest": ("-m flows.ingest",),
    "reaper": ("flows.gpus reap",),
    "line": ("-m demo.line",),
    "box": ("-m edge_agent.main",),
    "flow": ("prefect flow-run execute", "prefect.flow_engine", "prefect.engine"),
    "trainer": ("-m trainer run",),
    "child": ("trainer.ultralytics_backend.child",),
}
"""What a command line of each kind contains (for the demo: all of it, for the others: any of it)."""


def kind_of(command: str) -> str | None:
    """Return the kind of a command line, None for a process that is not the demo's."""
    if all(word in command for word in KINDS["demo"]):
        return "demo"
    for kind, words in KINDS.items():
        if kind != "demo" and any(word in command for word in words):
            return kind
    return None


def living(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Yield every process of the demo in `folder` with its kind."""
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            ours = str(folder) in command or process.environ().get("WHETSTONE_FOLDER") == str(folder)
            if not ours or process.status() == psutil.STATUS_ZOMBIE:
                continue
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        kind = kind_of(command)
        if kind is not None:
            yield kind, process


@dataclass
class Demo:
    """Run `whetstone demo` in a folder, and run it again in the same one when it was killed."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    hits: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start the demo, or go on with it."""
        log = (self.folder.parent / "demo.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "demo", "--folder", str(self.folder), "--no-random-choice"],
            stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        )  # fmt: skip

    def ended(self) -> int | None:
        """Return the demo's exit code, None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def kill(self, kind: str, victim: psutil.Process) -> None:
        """Kill a process and see that it is dead; a killed demo is started again."""
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return
        if kind == "demo":
            assert self.process is not None
            assert self.process.wait(20) == -signal.SIGKILL
        wait_until(lambda: not _is_alive(victim), 20, f"death of the {kind}")
        self.hits.append(kind)
        if kind == "demo":
            self.start()

    def log(self) -> str:
        """Return what the demo has printed so far."""
        return (self.folder.parent / "demo.log").read_text(errors="replace")


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
