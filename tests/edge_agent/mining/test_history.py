"""Test what is remembered of earlier frames, and that it stays bounded and unchanged."""

from __future__ import annotations

import numpy as np

from edge_agent.mining.history import FRAMES, OPEN_PARTS, Memory
from edge_agent.mining.seen import NO_PAST
from tests.edge_agent.mining.frames import found, seen


def test_a_part_remembers_its_last_frames_and_no_other_part() -> None:
    """Frames come oldest first, a few of them; another part begins without a past."""
    memory = Memory(low=0.2)
    assert memory.past_of(seen(found())) == NO_PAST
    for number in range(FRAMES + 2):
        memory.add(seen(found((0.5, number % 3)), number=number))
    frames = memory.past_of(seen(found())).frames
    assert [int(one.class_id[0]) for one in frames] == [number % 3 for number in range(2, FRAMES + 2)]
    assert memory.past_of(seen(found(), part="part-2")).frames == ()


def test_a_finished_part_is_forgotten_and_open_parts_are_bounded() -> None:
    """A later part of the same name is another one; parts nobody finished do not fill the memory."""
    memory = Memory(low=0.2)
    memory.add(seen(found((0.5, 0))))
    memory.part_done("part-1")
    memory.part_done("never-seen")
    assert memory.past_of(seen(found())).frames == ()
    for number in range(OPEN_PARTS + 5):
        memory.add(seen(found((0.5, 0)), part=f"p{number}"))
    assert memory.past_of(seen(found(), part="p0")).frames == ()
    assert len(memory.past_of(seen(found(), part=f"p{OPEN_PARTS + 4}")).frames) == 1


def test_class_shares_follow_what_is_seen_and_never_change_in_hand() -> None:
    """Weak boxes do not count; a past that a rule holds stays as it was."""
    memory = Memory(low=0.2)
    for _ in range(9):
        memory.add(seen(found((0.9, 0), (0.1, 2))))
    held = memory.past_of(seen(found()))
    memory.add(seen(found((0.9, 1))))
    later = memory.past_of(seen(found()))
    assert held.class_shares is not None
    assert later.class_shares is not None
    assert held.class_shares.tolist() == [1.0, 0.0, 0.0]
    assert np.allclose(later.class_shares, [0.9, 0.1, 0.0], atol=0.01)
    assert (held.counted, later.counted) == (9, 10)


def test_a_class_the_list_does_not_have_is_counted_too() -> None:
    """The model of a longer list may serve next: shares grow with it."""
    memory = Memory(low=0.2)
    memory.add(seen(found((0.9, 7))))
    memory.add(seen(found((0.9, 1_000_000))))
    past = memory.past_of(seen(found()))
    assert past.class_shares is not None
    assert past.class_shares.shape == (8,)
