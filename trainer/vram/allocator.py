"""Be CUDA's caching allocator as torch runs it, in numbers only: what is asked for and what is reserved.

Rules from c10/cuda/CUDACachingAllocator.cpp, which reserves more than is asked for: sizes are rounded to
512 bytes; up to 1 MiB comes out of 2 MiB segments, up to 10 MiB out of 20 MiB segments, more gets a
segment of its own in steps of 2 MiB; the best fitting free block is taken and split; free neighbours
merge within a segment; segments are kept. With expandable segments each pool is one segment that grows at
its end, in steps of 2 MiB (small pool) and 20 MiB (large pool).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

_MIB = 2**20
_UNIT = 512
_SMALL = 1 * _MIB
_SMALL_SEGMENT = 2 * _MIB
_LARGE_SEGMENT = 20 * _MIB
_OWN_SEGMENT_FROM = 10 * _MIB
_OWN_STEP = 2 * _MIB


@dataclass(slots=True, eq=False)
class Slot:
    """Hold a stretch of a segment; neighbours are linked in order of address."""

    start: int
    size: int
    pool: _Pool
    free: bool = False
    before: Slot | None = None
    after: Slot | None = None


@dataclass(slots=True, eq=False)
class _Pool:
    small: bool
    free: list[tuple[int, int]] = field(default_factory=list)
    slots: dict[int, Slot] = field(default_factory=dict)
    tail: Slot | None = None
    """The last stretch of an expandable segment, whose free end can grow."""


class CachingAllocator:
    """Serve sizes and take them back, and keep account; bytes.

    Args:
        expandable: whether `expandable_segments:True` is set.
    """

    def __init__(self, *, expandable: bool) -> None:
        self.expandable = expandable
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0
        self._small, self._large = _Pool(small=True), _Pool(small=False)
        self._next_address = 0

    def take(self, size: int) -> Slot:
        """Return a block of at least `size` bytes; `give_back` takes it back."""
        wanted = rounded(size)
        pool = self._small if wanted <= _SMALL else self._large
        slot = self._best_fit(pool, wanted) or self._new(pool, wanted)
        slot.free = False
        self._split(slot, wanted)
        self.allocated += slot.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Free a block and merge it with its free neighbours."""
        if slot.free:
            raise ValueError("a block was freed twice")
        self.allocated -= slot.size
        slot.free = True
        for neighbour in (slot.before, slot.after):
            if neighbour is not None and neighbour.free:
                self._hide(neighbour)
        if slot.after is not None and slot.after.free:
            _swallow(slot)
        if slot.before is not None and slot.before.free:
            slot = slot.before
            _swallow(slot)
        self._offer(slot)

    def _best_fit(self, pool: _Pool, wanted: int) -> Slot | None:
        number = bisect_left(pool.free, (wanted, -1))
        if number < len(pool.free):
            return pool.slots.pop(pool.free.pop(number)[1])
        tail = pool.tail
        if tail is not None and tail.free and tail.size >= wanted:
            return tail
        return None

    def _new(self, pool: _Pool, wanted: int) -> Slot:
        if self.expandable:
            return self._grown(pool, wanted)
        size = _segment_size(wanted, small=pool.small)
        slot = Slot(self._next_address, size, pool)
        self._next_address += size + _OWN_STEP
        self._reserve(size)
        return slot

    def _grown(self, pool: _Pool, wanted: int) -> Slot:
        step = _SMALL_SEGMENT if pool.small else _LARGE_SEGMENT
        tail = pool.tail
        if tail is not None and tail.free:
            growth = _up(wanted - tail.size, step)
            tail.size += growth
        else:
            growth = _up(wanted, step)
            start = tail.start + tail.size if tail is not None else 0
            grown = Slot(start, growth, pool, before=tail)
            if tail is not None:
                tail.after = grown
            pool.tail = tail = grown
        self._reserve(growth)
        return tail

    def _split(self, slot: Slot, wanted: int) -> None:
        rest = slot.size - wanted
        least = _UNIT if slot.pool.small or self.expandable else _SMALL + 1
        if rest < least:
            return
        slot.size = wanted
        remaining = Slot(slot.start + wanted, rest, slot.pool, True, slot, slot.after)
        if slot.after is not None:
            slot.after.before = remaining
        slot.after = remaining
        if slot.pool.tail is slot:
            slot.pool.tail = remaining
        self._offer(remaining)

    def _offer(self, slot: Slot) -> None:
        pool = slot.pool
        if self.expandable and slot.after is None:
            # torch counts what the end could still grow to, so the end is always the worst fit.
            pool.tail = slot
            return
        insort(pool.free, (slot.size, slot.start))
        pool.slots[slot.start] = slot

    def _hide(self, slot: Slot) -> None:
        pool = slot.pool
        if pool.slots.pop(slot.start, None) is not None:
            del pool.free[bisect_left(pool.free, (slot.size, slot.start))]

    def _reserve(self, size: int) -> None:
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)


def rounded(size: int) -> int:
    """Return a size as the allocator counts it."""
    return max(_up(size, _UNIT), _UNIT)


def _segment_size(wanted: int, *, small: bool) -> int:
    if small:
        return _SMALL_SEGMENT
    return _LARGE_SEGMENT if wanted < _OWN_SEGMENT_FROM else _up(wanted, _OWN_STEP)


def _swallow(slot: Slot) -> None:
    gone = slot.after
    assert gone is not None
    slot.size += gone.size
    slot.after = gone.after
    if gone.after is not None:
        gone.after.before = slot
    if slot.pool.tail is gone:
        slot.pool.tail = slot


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
