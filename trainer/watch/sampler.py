"""Look at the machine once a second from a thread beside the training; bounded in memory, cheap, never fatal.

>>> with Sampler(ThisHost(), reader_for(os.environ)) as sampler:
...     samples = sampler.since(0.0)
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from trainer.watch.sample import GpuReader, GpuReading, HostReader, Sample

_log = logging.getLogger("whetstone.trainer")
PERIOD_SECONDS = 1.0
KEPT = 3600
"""Samples kept: an hour of them, about a megabyte."""


class Sampler:
    """Keep the newest samples; use as a context, which starts and ends the thread.

    Args:
        host: looks at processor, memory and disk.
        gpu: looks at the card; None without one.
        period: seconds between two looks.
    """

    def __init__(self, host: HostReader, gpu: GpuReader | None, period: float = PERIOD_SECONDS) -> None:
        self._host = host
        self._gpu = gpu
        self._period = period
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.busy_seconds = 0.0
        """Processor time the looks have cost so far."""

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and let go of the card."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        if self._gpu is not None:
            self._gpu.close()

    def since(self, moment: float) -> tuple[Sample, ...]:
        """Return the samples taken after a moment of the steady clock, oldest first."""
        with self._lock:
            return tuple(one for one in self._samples if one.at > moment)

    def _run(self) -> None:
        while not self._ending.wait(self._period):
            self._look()
            self.busy_seconds = time.thread_time()

    def _look(self) -> None:
        try:
            sample = Sample(time.monotonic(), self._host.read(), self._read_gpu())
        except Exception as error:  # noqa: BLE001 - a watch that cannot see must not end what it watches
            self._tell("host", error)
            return
        with self._lock:
            self._samples.append(sample)

    def _read_gpu(self) -> GpuReading | None:
        try:
            return self._gpu.read() if self._gpu is not None else None
        except Exception as error:  # noqa: BLE001 - likewise
            self._tell("gpu", error)
            return None

    def _tell(self, what: str, error: Exception) -> None:
        """Say once that something cannot be read; once a second would fill the log."""
        if what not in self._told:
            self._told.add(what)
            _log.warning("watch.blind what=%s error=%s", what, error)
