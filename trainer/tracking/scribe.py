"""Write entries into a tracking store from a thread of its own, so that a slow or dead store costs no time.

Entries wait in order until the store takes them: when it comes back nothing is missing. Whoever works puts
entries down and goes on; at the end it waits some seconds for what is left, and then goes.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_log = logging.getLogger("whetstone.trainer")
END_SECONDS = 5.0
"""How long the end waits for a store that failed to answer."""
WORKING_SECONDS = 60.0
"""How long it waits for one that has not failed: on a busy machine, opening a new store takes some time."""
RETRY_SECONDS = 5.0
MOST_WAITING = 20_000
"""Entries kept for a store that is away; more than a run has epochs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold what is written of one epoch; epochs count from 1 over the whole run."""

    epoch: int
    rates: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    ours: dict[str, float] = field(default_factory=dict)


class Book(Protocol[T_contra]):
    """Be a tracking store to write entries into; every method may raise whatever its client raises."""

    @property
    def name(self) -> str:
        """Name it for people."""
        ...

    def open(self) -> None:
        """Find or make the run; called again after it raised."""
        ...

    def write(self, entry: T_contra) -> None:
        """Write one entry; called again with the same one after it raised."""
        ...

    def close(self) -> None:
        """Say that no more comes."""
        ...


class Scribe(Generic[T]):
    """Write into one book.

    Args:
        book: where to; used by this scribe's thread alone.
        retry_seconds: pause after a failure.
    """

    def __init__(self, book: Book[T], *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._book = book
        self._retry_seconds = retry_seconds
        self._inbox: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._waiting: deque[T] = deque(maxlen=MOST_WAITING)
        self._problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._is_open = self._is_away = False
        self._written = self._taken = 0
        self._thread = threading.Thread(target=self._work, name=f"track-{book.name}", daemon=True)
        self._thread.start()

    def put(self, entry: T) -> None:
        """Have an entry written some time; returns at once."""
        self._taken += 1
        self._inbox.put(entry)

    def problems(self) -> list[str]:
        """Return what went wrong since the last call, in words; an outage is told once."""
        told = []
        while not self._problems.empty():
            told.append(self._problems.get())
        return told

    def close(self, seconds: float = END_SECONDS, working_seconds: float = WORKING_SECONDS) -> None:
        """Wait for what is left: at most `seconds`, or `working_seconds` while nothing fails."""
        self._ending.set()
        self._inbox.put(None)
        began = time.monotonic()
        while self._thread.is_alive():
            waited = time.monotonic() - began
            if waited > (seconds if self._is_away else working_seconds):
                break
            self._thread.join(0.1)
        left = self._taken - self._written
        if left or self._thread.is_alive():
            self._problems.put(f"{self._book.name}: {left} entries were not written before the end")

    def _work(self) -> None:
        while True:
            written = self._write_all()
            if self._ending.is_set() and self._inbox.empty():
                if written:
                    self._try(self._book.close)
                return
            self._take_in()

    def _take_in(self) -> None:
        """Wait for an entry, or after a failure for the pause, and take in all there are."""
        if self._is_away:
            self._ending.wait(self._retry_seconds)
        else:
            self._keep(self._inbox.get())
        while not self._inbox.empty():
            self._keep(self._inbox.get())

    def _keep(self, entry: T | None) -> None:
        if entry is not None:
            self._waiting.append(entry)

    def _write_all(self) -> bool:
        """Write what waits, in order; False when the store would not take it."""
        if not self._is_open:
            self._is_open = self._try(self._book.open)
        while self._is_open and self._waiting:
            if not self._try(partial(self._book.write, self._waiting[0])):
                return False
            self._waiting.popleft()
            self._written += 1
        return self._is_open

    def _try(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - a tracking client may raise anything, and may fail nothing
            _log.warning("trainer.tracking_failed book=%s error=%s", self._book.name, error)
            if not self._is_away:
                self._problems.put(f"{self._book.name}: {type(error).__name__}: {str(error)[:500]}")
            self._is_away = True
            return False
        self._is_away = False
        return True
