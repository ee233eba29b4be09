"""Test both ends of the ring that child and agent share, here within one process."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources.ring import LENT, Arrived, Moment, Remark, RingReader, RingWriter

WHEN = Moment(1.5, 2.5)


class Pair:
    """Be the two ends."""

    def __init__(self, count: int = 8, *, waits: bool = False) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sockets = (near, far)
        self.reader, self.writer = RingReader(near), RingWriter(far, count, waits=waits)

    def send(self, value: int, shape: tuple[int, ...] = (4, 6, 3)) -> bool:
        if not self.writer.has_room():
            return False
        self.writer.send(np.full(shape, value, np.uint8), WHEN)
        return True

    def receive(self) -> list[Arrived | Remark]:
        try:
            return self.reader.receive()
        except BlockingIOError:
            return []


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    for one in made.sockets:
        one.close()


def images(found: list[Arrived | Remark]) -> list[int]:
    return [int(item.image.max()) for item in found if isinstance(item, Arrived)]


def test_frames_cross_in_order_with_their_moments(pair: Pair) -> None:
    """Pictures, moments and words come out as they went in."""
    for value in (1, 2, 3):
        assert pair.send(value)
    pair.writer.remark("N", otherwise="fps: asked 30, got 25")
    found = pair.receive()
    assert images(found) == [1, 2, 3]
    assert isinstance(found[0], Arrived)
    assert found[0].moment == WHEN
    assert found[3] == Remark("N", {"otherwise": "fps: asked 30, got 25"})


def test_a_slot_that_is_referred_to_is_never_written_again(pair: Pair) -> None:
    """What the agent holds stays as it is, however many frames follow."""
    pair.send(7)
    held = pair.receive()
    for value in range(100, 140):
        pair.reader.lend()
        assert pair.send(value)
        assert images(pair.receive()) == [value]
    assert images(held) == [7]


def test_when_all_slots_are_held_frames_are_dropped_and_counted(pair: Pair) -> None:
    """Only once something is let go does the next frame come, and the count of the lost with it."""
    held = []
    for value in range(8):
        assert pair.send(value)
        held += pair.receive()
        pair.reader.lend()
    assert not pair.send(99)
    assert not pair.send(99)
    assert pair.receive() == []
    assert pair.reader.dropped == 2
    del held[3]
    pair.reader.lend()
    assert pair.send(50)
    assert images(pair.receive()) == [50]


def test_a_patient_ring_waits_for_a_slot() -> None:
    """In mode `every` nothing is dropped: the writer asks until a slot is lent."""
    pair = Pair(waits=True)
    held: list[Arrived | Remark] = []
    for value in range(8):
        assert pair.send(value)
        held += pair.receive()
        pair.reader.lend()
    held.clear()
    pair.reader.lend()
    assert pair.send(8)
    assert images(pair.receive()) == [8]
    assert pair.reader.dropped == 0
    for one in pair.sockets:
        one.close()


def test_a_larger_picture_makes_a_larger_ring_and_the_old_one_stays_readable(pair: Pair) -> None:
    """A camera may change its size; pictures of the old size are still what they were."""
    pair.send(1)
    old = pair.receive()
    pair.send(2, (400, 600, 3))
    pair.send(3, (2, 2, 3))
    found = pair.receive()
    assert [item.image.shape for item in found if isinstance(item, Arrived)] == [(400, 600, 3), (2, 2, 3)]
    assert images(old + found) == [1, 2, 3]


def test_a_frame_decoded_into_its_slot_is_not_copied(pair: Pair) -> None:
    """After the first frame there is a slot to decode into."""
    assert pair.writer.target() is None
    pair.send(1)
    target = pair.writer.target()
    assert target is not None
    target[:] = 9
    pair.writer.send(target, WHEN)
    assert images(pair.receive()) == [1, 9]


def test_no_descriptor_and_no_name_is_left(pair: Pair) -> None:
    """The shared memory has no file name; its descriptors are closed once it is mapped."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    pair.send(1)
    held = pair.receive()
    # mmap keeps one descriptor on each side, and both ends are here.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert not [name for name in Path("/dev/shm").iterdir() if "whetstone" in str(name)]
    assert len(held) == 1


def test_the_end_of_the_other_side_is_told(pair: Pair) -> None:
    """What was sent before is still read."""
    pair.send(1)
    pair.sockets[1].close()
    assert images(pair.receive()) == [1]
    with pytest.raises(EOFError):
        pair.reader.receive()


def test_the_last_words_of_a_child_are_heard_also_if_it_left_something_unread(pair: Pair) -> None:
    """The kernel tells of the unread slots first, as a reset; the reason of the end lies behind that."""
    pair.send(1)
    assert images(pair.receive()) == [1]
    pair.reader.lend()
    pair.writer.remark("E", got="end of stream")
    pair.sockets[1].close()
    assert pair.reader.receive() == [Remark("E", {"got": "end of stream"})]
    with pytest.raises(EOFError):
        pair.reader.receive()


def test_the_child_hears_that_the_agent_is_gone(pair: Pair) -> None:
    """It ends by an error at the next look."""
    for value in range(LENT):
        pair.send(value)
    pair.sockets[0].close()
    with pytest.raises(ConnectionError):
        pair.send(9)
