"""Look at machine, clock and certificates now and then, on a thread of its own, for reports and metrics.

What is read here may block (a sensor's service, a server that does not answer), so nobody else does it:
reports and scrapes take the last readings.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

import urllib3

from edge_agent.care.clock import EARLIEST, SKEW_LIMIT_S, skew_against
from edge_agent.care.jetson import Sensors
from edge_agent.care.machine import THROTTLE_C, Machine
from edge_agent.config import AgentConfig
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.link.certificate import read_certificate
from fleet_contracts.base import utc_now

logger = logging.getLogger("whetstone.edge.care")
LOOK_EVERY_S = 10.0
ASK_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Readings:
    """Hold what was read last; None = not known.

    Attributes:
        machine: temperatures and power.
        disk_free_bytes: on the disk of `data_dir`.
        certificate_days: until the box's certificate runs out; negative once it has.
        clock_skew_s: by which the box's clock is ahead of the release server's.
    """

    machine: Machine = field(default_factory=Machine)
    disk_free_bytes: int | None = None
    certificate_days: float | None = None
    clock_skew_s: float | None = None


class MachineWatch:
    """Keep the last readings, and let problems stand that a person should know of in time."""

    def __init__(self, config: AgentConfig, events: Events) -> None:
        self._config = config
        self._events = events
        self._readings = Readings()
        self._sensors: Sensors | None = None

    def readings(self) -> Readings:
        """Return what was read last."""
        return self._readings

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set; the body of the watch's thread."""
        ask_at = time.monotonic()
        while not stop.is_set():
            try:
                self.look(ask_server=time.monotonic() >= ask_at)
            except Exception as error:  # the thread's outer edge: sensors are other people's code
                self._events.note("care.watch-failed", problem=f"{type(error).__name__}: {error}")
                logger.exception("care.watch-failed")
            if time.monotonic() >= ask_at:
                ask_at = time.monotonic() + ASK_EVERY_S
            stop.wait(LOOK_EVERY_S)
        if self._sensors is not None:
            self._sensors.close()

    def look(self, *, ask_server: bool) -> None:
        """Read everything once; the release server is asked for its time only if told so."""
        if self._sensors is None:
            self._sensors = Sensors()
        free: int | None = None
        with suppress(OSError):
            free = shutil.disk_usage(self._config.data_dir).free
        new = replace(self._readings, machine=self._sensors.read(), disk_free_bytes=free,
                      certificate_days=self._certificate_days())  # fmt: skip
        if ask_server:
            new = replace(new, clock_skew_s=self._skew())
        self._readings = new
        self._tell(new)

    def _skew(self) -> float | None:
        try:
            return skew_against(self._config.releases.url, self._config.releases.ca_file)
        except urllib3.exceptions.HTTPError:
            return None

    def _certificate_days(self) -> float | None:
        path = self._config.broker.cert_file
        if path is None:
            return None
        try:
            return read_certificate(path).days_left(utc_now())
        except ConfigError:
            # The link tells of it.
            return None

    def _tell(self, readings: Readings) -> None:
        """Let problems stand or end; texts hold no number that changes with every look."""
        skew, hottest = readings.clock_skew_s, readings.machine.hottest
        text = ""
        if utc_now() < EARLIEST:
            text = f"the clock says {utc_now():%Y-%m-%d}: set it, and look at its battery and time server"
        elif skew is not None and abs(skew) > SKEW_LIMIT_S:
            text = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the release server: set it"
        self._stand("clock.skew", text)
        hot = hottest is not None and hottest >= THROTTLE_C
        text = f"a sensor is above {THROTTLE_C:g} degrees: the engine slows down" if hot else ""
        self._stand("machine.hot", text)

    def _stand(self, name: str, text: str) -> None:
        if text:
            self._events.set_problem(name, text)
        else:
            self._events.clear_problem(name)
