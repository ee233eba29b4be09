"""Count what CUDA's allocator reserves: by hand for its rules, by chance for what must always hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.vram.allocator import CachingAllocator, Slot, rounded

MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "reserved"),
    [
        ([1], 2 * MIB),
        ([MIB, MIB], 2 * MIB),
        ([MIB + 1], 20 * MIB),
        ([9 * MIB, 9 * MIB], 20 * MIB),
        ([9 * MIB, 9 * MIB, 9 * MIB], 40 * MIB),
        ([10 * MIB], 10 * MIB),
        ([11 * MIB + 1], 12 * MIB),
        ([1, 2 * MIB], 22 * MIB),
    ],
)
def test_segments_come_in_torchs_sizes(sizes: list[int], reserved: int) -> None:
    """Small blocks share 2 MiB, middling ones 20 MiB, large ones have a segment of their own."""
    allocator = CachingAllocator(expandable=False)
    for size in sizes:
        allocator.take(size)
    assert allocator.reserved == reserved


def test_a_freed_segment_is_kept_and_used_again() -> None:
    """What was reserved once stays; a block that fits costs nothing."""
    allocator = CachingAllocator(expandable=False)
    allocator.give_back(allocator.take(64 * MIB))
    allocator.take(40 * MIB)
    assert (allocator.reserved, allocator.allocated) == (64 * MIB, 40 * MIB)


def test_the_best_fit_is_taken() -> None:
    """The smaller of two free segments serves, so that the larger stays whole."""
    allocator = CachingAllocator(expandable=False)
    large, small = allocator.take(64 * MIB), allocator.take(32 * MIB)
    allocator.give_back(large)
    allocator.give_back(small)
    allocator.take(30 * MIB)
    allocator.take(64 * MIB)
    assert allocator.reserved == 96 * MIB


def test_a_rest_up_to_a_mebibyte_is_not_split_off() -> None:
    """In the large pool such a rest stays with its block and counts as allocated."""
    allocator = CachingAllocator(expandable=False)
    allocator.give_back(allocator.take(20 * MIB))
    allocator.take(19 * MIB)
    assert allocator.allocated == 20 * MIB


def test_fixed_segments_fragment_where_an_expandable_one_does_not() -> None:
    """Neighbours of different segments cannot serve one large block; one growing segment can."""
    reserved = []
    for expandable in (False, True):
        allocator = CachingAllocator(expandable=expandable)
        for slot in [allocator.take(20 * MIB) for _ in range(4)]:
            allocator.give_back(slot)
        allocator.take(80 * MIB)
        reserved.append(allocator.reserved)
    assert reserved == [160 * MIB, 80 * MIB]


def test_an_expandable_segment_grows_by_twenty_mebibytes() -> None:
    """The end grows in whole pages, and a free end is grown rather than left behind."""
    allocator = CachingAllocator(expandable=True)
    last = allocator.take(15 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.give_back(last)
    allocator.take(25 * MIB)
    assert allocator.reserved == 40 * MIB


def test_nothing_is_freed_twice() -> None:
    """A double free is an error, not a gain."""
    allocator = CachingAllocator(expandable=False)
    slot = allocator.take(1)
    allocator.give_back(slot)
    with pytest.raises(ValueError, match="twice"):
        allocator.give_back(slot)


Steps = st.lists(st.tuples(st.booleans(), st.integers(1, 60 * MIB), st.integers(0, 99)), max_size=60)


@settings(max_examples=120, deadline=None)
@given(Steps, st.booleans())
def test_books_balance(steps: list[tuple[bool, int, int]], expandable: bool) -> None:
    """Reserved covers allocated, allocated covers what was asked for, and no two blocks overlap."""
    allocator = CachingAllocator(expandable=expandable)
    held: list[tuple[Slot, int]] = []
    for take, size, which in steps:
        if take or not held:
            held.append((allocator.take(size), size))
        else:
            allocator.give_back(held.pop(which % len(held))[0])
        assert allocator.reserved >= allocator.allocated >= sum(rounded(size) for _slot, size in held)
        for small in (True, False):
            spans = sorted((s.start, s.start + s.size) for s, _size in held if s.pool.small is small)
            assert all(one[1] <= two[0] for one, two in zip(spans, spans[1:], strict=False))
    for slot, _size in held:
        allocator.give_back(slot)
    assert allocator.allocated == 0
    assert allocator.peak_reserved == allocator.reserved
