"""Write into books that refuse, hang and come back: a training never waits, and nothing is missing after."""

from __future__ import annotations

import threading
import time

from tests.helpers import wait_until
from trainer.tracking.scribe import Entry, Scribe


class BookInMemory:
    """Be a tracking store that can be told to refuse or to hang."""

    name = "memory"

    def __init__(self) -> None:
        self.refusing = threading.Event()
        self.hanging = threading.Event()
        self.refused = 0
        self.opened = 0
        self.epochs: list[int] = []
        self.closed = False

    def open(self) -> None:
        self._answer()
        self.opened += 1

    def write(self, entry: Entry) -> None:
        self._answer()
        self.epochs.append(entry.epoch)

    def close(self) -> None:
        self._answer()
        self.closed = True

    def _answer(self) -> None:
        while self.hanging.is_set():
            time.sleep(0.01)
        if self.refusing.is_set():
            self.refused += 1
            raise ConnectionError("port closed")


def test_epochs_are_written_in_order_and_the_book_is_closed() -> None:
    """What was put down before the end is written before the end."""
    book = BookInMemory()
    scribe = Scribe(book)
    for epoch in range(1, 21):
        scribe.put(Entry(epoch))
    scribe.close()
    assert book.epochs == list(range(1, 21))
    assert (book.opened, book.closed, scribe.problems()) == (1, True, [])


def test_an_outage_is_told_once_and_leaves_no_gap() -> None:
    """A store that is away from the start and again in the middle has every epoch in the end."""
    book = BookInMemory()
    book.refusing.set()
    scribe = Scribe(book, retry_seconds=0.01)
    scribe.put(Entry(1))
    wait_until(lambda: book.refused > 3, 5, "several refused calls")
    assert scribe.problems() == ["memory: ConnectionError: port closed"]
    book.refusing.clear()
    wait_until(lambda: book.epochs == [1], 5, "the first epoch")
    book.refusing.set()
    seen = book.refused
    scribe.put(Entry(2))
    scribe.put(Entry(3))
    wait_until(lambda: book.refused > seen, 5, "another refused call")
    book.refusing.clear()
    scribe.close()
    assert book.epochs == [1, 2, 3]
    assert len(scribe.problems()) == 1


def test_a_store_that_hangs_costs_the_training_nothing_and_the_end_little() -> None:
    """Putting down never waits; the end waits as long as it was told, and says what is missing."""
    book = BookInMemory()
    book.hanging.set()
    scribe = Scribe(book)
    began = time.monotonic()
    for epoch in range(1000):
        scribe.put(Entry(epoch))
    assert time.monotonic() - began < 1.0
    scribe.close(seconds=0.1, working_seconds=0.3)
    assert time.monotonic() - began < 5.0
    assert scribe.problems() == ["memory: 1000 entries were not written before the end"]
    book.hanging.clear()


def test_a_dead_store_is_asked_once_more_at_the_end() -> None:
    """A store that came back after the last pause still gets everything."""
    book = BookInMemory()
    book.refusing.set()
    scribe = Scribe(book, retry_seconds=600.0)
    scribe.put(Entry(1))
    wait_until(lambda: book.refused > 0, 5, "a refused call")
    book.refusing.clear()
    scribe.close()
    assert (book.epochs, book.closed) == ([1], True)
