"""Keep the last report where `whetstone-agent status` reads it, without wearing out an SD card.

A file that is rewritten with each report costs tens of megabytes a day on a box that does nothing. It is
written when its content has changed, and what changes all the time (counts, temperatures) only now and then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.files import write_atomically
from fleet_contracts.base import encode
from fleet_contracts.releases import DeviceReport

REPORTS_PER_WRITE = 6
"""So many reports may pass until changed counts are written: with a report every 10 s, once a minute."""
WRITES_PER_VITALS = 10
"""What the box measures of itself changes all the time; alone it is written so many times more seldom."""


class StatusFile:
    """Write reports to a file, seldom.

    Args:
        path: replaced as a whole.
        every_s: pause between two writes of which neither is urgent.
        clock: seconds that only go forward.
    """

    def __init__(self, path: Path, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._every_s = every_s
        self._clock = clock
        self._written: DeviceReport | None = None
        self._written_at = 0.0
        self.writes = 0

    def keep(self, report: DeviceReport, *, urgent: bool) -> None:
        """Write the report if it says something new, and if it is urgent or the pause is over.

        Raises:
            OSError: the file could not be written; the next report tries again.
        """
        pause_s = self._pause_s(report)
        if pause_s is None or (not urgent and self._clock() < self._written_at + pause_s):
            return
        write_atomically(self._path, encode(report))
        self._written, self._written_at = report, self._clock()
        self.writes += 1

    def _pause_s(self, report: DeviceReport) -> float | None:
        """Return how long after the last write this report may be written; None if it says nothing new."""
        if self._written is None:
            return -math.inf
        known = self._written
        timeless = report.model_copy(update={"reported_at": known.reported_at})
        if timeless == known:
            return None
        is_vitals_only = timeless.model_copy(update={"vitals": known.vitals}) == known
        return self._every_s * (WRITES_PER_VITALS if is_vitals_only else 1)
