"""Run a real Mosquitto on a free port; it can be stopped and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.config import BrokerConfig
from tests.helpers import free_port, program, wait_until


class RealBroker:
    """Be a Mosquitto process without persistence, as after a power cut at the broker.

    `around` is a command it is started by, such as one that puts it on another network.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", around: tuple[str, ...] = ()) -> None:
        self._around = around
        self._program = program("mosquitto", "apt-get install mosquitto")
        self._folder = folder
        self.address = address
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def config(self) -> BrokerConfig:
        """Return how a client reaches it."""
        return BrokerConfig(host=self.address, port=self.port, reconnect_max_s=0.5)

    def settings(self) -> str:
        """Return its configuration file."""
        return f"listener {self.port} {self.address}\nallow_anonymous true\npersistence false\n"

    def log(self) -> str:
        """Return what it has logged."""
        return (self._folder / "mosquitto.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it and wait until it listens."""
        settings = self._folder / "mosquitto.conf"
        settings.write_text(self.settings())
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._around, self._program, "-c", str(settings)], stdout=log, stderr=log
            )
        wait_until(self._listens, 10, "Mosquitto to listen")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Let it answer nothing until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0


@contextmanager
def running_broker(folder: Path) -> Iterator[RealBroker]:
    """Run a broker for the length of a test."""
    broker = RealBroker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
