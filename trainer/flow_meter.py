"""Count how a run's data came: bytes that were there, bytes from the network, seconds waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fleet_contracts.training import DataFlow


class FlowMeter:
    """Count from several threads; `wanted_bytes` is what the run asks for in all."""

    def __init__(self, wanted_bytes: int = 0) -> None:
        self.wanted_bytes = wanted_bytes
        self._cached = 0
        self._fetched = 0
        self._waited = 0.0
        self._lock = threading.Lock()

    def cached(self, size: int) -> None:
        """Count bytes that were on this machine already."""
        with self._lock:
            self._cached += size

    def fetched(self, size: int) -> None:
        """Count bytes that came over the network, those that came twice twice."""
        with self._lock:
            self._fetched += size

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in which nothing else could be done."""
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waited += time.monotonic() - began

    def flow(self) -> DataFlow:
        """Return the counts so far."""
        with self._lock:
            return DataFlow(
                cached_bytes=self._cached, fetched_bytes=self._fetched, wait_seconds=round(self._waited, 3)
            )
