"""Run a PLC in a child process; it can be frozen, woken, killed and started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import ROOT, free_port, wait_until


class Plc:
    """Be a PLC process; `writes` holds what was written, the value, and when by `time.monotonic()`."""

    def __init__(self, kind: str, folder: Path | None = None) -> None:
        self.port = free_port()
        self.writes: list[tuple[str, int, float]] = []
        self._arguments = [sys.executable, "-m", "tests.edge_agent.outputs.plc_child", kind, str(self.port)]
        self._arguments += [str(folder)] if folder else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            self._arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        wait_until(self._listens, 20, "the PLC to listen")

    def freeze(self) -> None:
        """Let it hang: its connections stand, nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def of(self, what: str, value: int = 1) -> list[float]:
        """Return when a value was written."""
        return [at for name, written, at in list(self.writes) if (name, written) == (what, value)]

    def shows(self, what: str) -> int | None:
        """Return the last value that was written."""
        return next((value for name, value, _ in reversed(list(self.writes)) if name == what), None)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            what, value, at = json.loads(line)
            self.writes.append((what, value, at))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running_plc(kind: str, folder: Path | None = None) -> Iterator[Plc]:
    """Run a PLC for the length of a test."""
    plc = Plc(kind, folder)
    plc.start()
    try:
        yield plc
    finally:
        plc.kill()
