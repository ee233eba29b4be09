"""Test that buffers come back by themselves, and only when nobody refers to them."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from edge_agent.sources.pool import FramePool, Slots

SHAPE = (12, 16, 3)


def test_a_pool_lends_each_buffer_once_and_then_none() -> None:
    """No two frames share bytes, and an empty pool says so at once."""
    pool = FramePool(SHAPE, 3)
    frames = [pool.take() for _ in range(3)]
    assert pool.take() is None
    for value, frame in enumerate(frames):
        assert frame is not None
        frame[:] = value
    assert [int(frame.max()) for frame in frames if frame is not None] == [0, 1, 2]
    assert pool.free() == 0


@pytest.mark.parametrize("look", [lambda a: a[2:5], lambda a: a.T, lambda a: a.reshape(-1)[::2], memoryview])
def test_any_view_keeps_a_buffer(look: object) -> None:
    """Whoever still sees a part of a picture sees it unchanged."""
    pool = FramePool(SHAPE, 1)
    frame = pool.take()
    view = look(frame)  # type: ignore[operator]
    del frame
    assert pool.take() is None
    del view
    assert pool.take() is not None


def test_the_lowest_free_buffer_is_lent_again() -> None:
    """A pool that is too large touches no more memory than is used at once."""
    slots = Slots(64, 8)
    held = slots.view(0, (64,))
    assert slots.free_slot() == 1
    del held
    assert slots.free_slot() == 0


def test_slots_over_given_memory_do_not_overlap() -> None:
    """The ring of a child process is cut up the same way."""
    memory = bytearray(4 * 27)
    slots = Slots(27, 4, memoryview(memory))
    for slot in range(4):
        slots.view(slot, (3, 3, 3))[:] = slot
    assert memory == bytes(n for n in range(4) for _ in range(27))
    assert slots.view(1, (2, 2, 3)).shape == (2, 2, 3)


def test_steady_use_allocates_nothing_large_and_is_cheap() -> None:
    """Taking and letting go of a 1080p frame costs microseconds and less than a page of memory."""
    pool = FramePool((1080, 1920, 3), 4)
    pool.take()
    tracemalloc.start()
    began = time.perf_counter()
    for _ in range(2000):
        frame = pool.take()
        assert frame is not None
    took = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4096
    assert took / 2000 < 1e-3


def test_a_frame_in_a_list_of_others_is_kept() -> None:
    """References from anywhere count, not only from variables."""
    pool = FramePool(SHAPE, 2)
    kept = {"frames": [pool.take()]}
    assert pool.free() == 1
    kept["frames"].clear()
    assert pool.free() == 2
    assert np.shape(pool.take()) == SHAPE
