"""Lend preallocated picture buffers that come back by themselves.

A buffer is free again when nobody refers to an array made from it, found by its reference count: whoever
holds a frame (the outbox's queue, a ring of recent frames) need not tell that he is done. Every view of a
numpy array refers to the array that the pool keeps, so one count covers them all. It needs an interpreter
with a global lock, and is asked by one thread.

    >>> pool = FramePool((2, 3, 3), 1)
    >>> frame = pool.take()
    >>> pool.take() is None
    True
    >>> del frame
    >>> pool.free()
    1
"""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import NDArray

from edge_agent.sources.base import Image


class Slots:
    """Cut memory into equal buffers and tell which of them nobody refers to.

    `memory` is one contiguous buffer of at least `count * size` bytes; None lets numpy make one. Pages that
    were never written cost nothing, and `free_slot` prefers low numbers, so spare slots are cheap.
    """

    def __init__(self, size: int, count: int, memory: memoryview | None = None) -> None:
        whole: NDArray[np.uint8] = (
            np.empty(size * count, np.uint8) if memory is None else np.frombuffer(memory, np.uint8)
        )
        self.size = size
        self.count = count
        # Each slot owns its base: a slice of `whole` would pass its views on to `whole` itself.
        self._slots = [np.frombuffer(whole.data[n * size : (n + 1) * size], np.uint8) for n in range(count)]
        self._unused = self._references(0)

    def view(self, slot: int, shape: tuple[int, ...]) -> Image:
        """Return a slot's bytes in a shape that fits; while it or any view of it lives, the slot is taken."""
        return self._slots[slot][: math.prod(shape)].reshape(shape)

    def is_free(self, slot: int) -> bool:
        """Tell whether nobody refers to a slot."""
        return self._references(slot) <= self._unused

    def free_slot(self) -> int | None:
        """Return the lowest free slot."""
        return next((slot for slot in range(self.count) if self.is_free(slot)), None)

    def _references(self, slot: int) -> int:
        return sys.getrefcount(self._slots[slot])


class FramePool:
    """Lend pictures of one shape."""

    def __init__(self, shape: tuple[int, ...], count: int) -> None:
        self._shape = shape
        self._slots = Slots(math.prod(shape), count)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of every buffer."""
        return self._shape

    def take(self) -> Image | None:
        """Return a buffer with whatever it held before, or None while all are referred to."""
        slot = self._slots.free_slot()
        return None if slot is None else self._slots.view(slot, self._shape)

    def free(self) -> int:
        """Return how many buffers nobody refers to."""
        return sum(self._slots.is_free(slot) for slot in range(self._slots.count))
