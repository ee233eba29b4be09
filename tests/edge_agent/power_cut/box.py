"""Be the other end of `driver`: an outbox whose power is cut, as tests see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.edge_agent.power_cut.harness import PowerSupply
from tests.helpers import ROOT


class PowerWentOff(Exception):
    """Tell that the power went in the middle of a command."""


class Driver:
    """Hold the process that forks sessions."""

    def __init__(self, shim: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.edge_agent.power_cut.driver"],
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(shim)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Return one answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver has died"
        return dict(json.loads(line))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)


class CuttableOutbox:
    """Be an outbox in a process of its own, on a power supply that can be cut."""

    def __init__(self, driver: Driver, supply: PowerSupply, quota: int = 10**9) -> None:
        self.driver, self.supply, self.quota = driver, supply, quota
        self.supply.begin()
        self._is_open = False

    def __enter__(self) -> CuttableOutbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self, cut: int = 0) -> int:
        """Open the outbox and return how many examples were taken in."""
        session = {"folder": str(self.supply.folder), "state": str(self.supply.state), "quota": self.quota}
        assert self.driver.ask(session=session) == {"done": None}
        self._is_open = True
        return int(self.do("open", cut=cut))

    def do(self, name: str, cut: int = 0, **arguments: Any) -> Any:
        """Do one thing; raises PowerWentOff, the folder put back, if its `cut`-th step was reached."""
        reply = self.driver.ask(do=name, cut=cut, **{"with": arguments})
        if "done" in reply:
            return reply["done"]
        assert reply == {"dead": signal.SIGKILL}, reply
        assert self.supply.counts()["fired"] == 1
        self._is_open = False
        self.supply.cut()
        raise PowerWentOff

    def cut_now(self) -> None:
        """Cut the power between two commands."""
        try:
            # The first step of anything will do: it is cut before it is done.
            self.do("progress", cut=1, tokens=["cut"])
        except PowerWentOff:
            return
        raise AssertionError("the cut did not fire")

    def end(self) -> None:
        """End the session, cutting the power."""
        if self._is_open:
            self.cut_now()
