"""Carry frames from the child that holds a camera to the agent: shared memory, and messages on a socket.

The child makes an anonymous memory file and passes its descriptor, so no name is left behind however either
side dies. A slot belongs to the child until its frame is announced, then to the agent until nobody refers to
it; the agent then lends it again. Each side writes only what is its own, so nobody waits, nothing is copied.

    child -> agent   R  a ring with its descriptor      F  a frame in a slot
                     D  frames dropped for want of a slot; also a sign of life
                     N  a remark    E  the reason of the end
    agent -> child   generation of the ring, then the slots lent to the child, one byte each
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.sources.base import Image
from edge_agent.sources.pool import Slots

LENT = 4
"""Slots the child holds at once: one it writes, one announced, and spare ones for a late answer."""
MOST_SLOTS = 255
LONGEST_MESSAGE = 4096
_RING = struct.Struct("<cBQB")
_FRAME = struct.Struct("<cBBddIIII")
_DROPPED = struct.Struct("<cI")


@dataclass(frozen=True, slots=True)
class Moment:
    """Hold when a frame was captured, by `time.monotonic` and by `time.time`."""

    mono: float
    wall: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """Hold a frame that the agent may read as long as it refers to it."""

    image: Image
    moment: Moment


@dataclass(frozen=True, slots=True)
class Remark:
    """Hold what a child says in words: something it noticed, or why it ended."""

    kind: str
    fields: dict[str, Any]


class RingWriter:
    """Be the child's end."""

    def __init__(self, sock: socket.socket, count: int, *, waits: bool) -> None:
        self._socket = sock
        self._count = min(max(count, LENT + 1), MOST_SLOTS)
        self._waits = waits
        self._generation = 0
        self._slots: Slots | None = None
        self._mine: deque[int] = deque()
        self._shape: tuple[int, ...] = ()
        self._dropped = 0

    def has_room(self) -> bool:
        """Tell whether the next frame has a slot; in a patient ring, wait for one.

        Raises:
            OSError: the agent is gone.
        """
        self._take_lent(wait=False)
        while not self._mine and self._slots is not None:
            if not self._waits:
                self._dropped += 1
                self._say_dropped()
                return False
            self._take_lent(wait=True)
            self._say_dropped()
        return True

    def target(self) -> Image | None:
        """Return the slot to decode into, in the last frame's shape; None before the first frame."""
        if self._slots is None or not self._mine:
            return None
        return self._slots.view(self._mine[0], self._shape)

    def send(self, image: Image, moment: Moment) -> None:
        """Announce a frame, copied into a slot unless it was decoded there.

        Raises:
            OSError: the agent is gone.
        """
        if self._slots is None or image.nbytes > self._slots.size:
            self._grow(image.nbytes)
        assert self._slots is not None
        slot = self._mine.popleft()
        view = self._slots.view(slot, image.shape)
        if image.__array_interface__["data"][0] != view.__array_interface__["data"][0]:
            np.copyto(view, image)
        self._shape = image.shape
        self._socket.send(
            _FRAME.pack(b"F", self._generation, slot, moment.mono, moment.wall, *image.shape, self._dropped)
        )
        self._dropped = 0

    def remark(self, kind: str, **fields: object) -> None:
        """Say something in words: kind `N` or `E`."""
        self._socket.send(kind.encode() + json.dumps(fields).encode()[: LONGEST_MESSAGE - 1])

    def _grow(self, size: int) -> None:
        """Make a ring of larger slots; the agent keeps the old one as long as it refers to it."""
        page = mmap.PAGESIZE
        size = (size + page - 1) // page * page
        handle = os.memfd_create("whetstone-frames", os.MFD_CLOEXEC)
        try:
            os.ftruncate(handle, size * self._count)
            memory = mmap.mmap(handle, size * self._count)
            self._generation = (self._generation + 1) % 256
            self._slots = Slots(size, self._count, memoryview(memory))
            self._mine = deque(range(LENT))
            note = _RING.pack(b"R", self._generation, size, self._count)
            socket.send_fds(self._socket, [note], [handle])
        finally:
            os.close(handle)

    def _take_lent(self, *, wait: bool) -> None:
        """Take in which slots were lent; waits at most a fifth of a second."""
        self._socket.settimeout(0.2 if wait else 0.0)
        try:
            while True:
                message = self._socket.recv(LONGEST_MESSAGE)
                if not message:
                    raise ConnectionResetError("the agent is gone")
                if message[0] == self._generation:
                    self._mine.extend(message[1:])
                self._socket.settimeout(0.0)
        except (BlockingIOError, TimeoutError):
            return
        finally:
            self._socket.settimeout(None)

    def _say_dropped(self) -> None:
        try:
            self._socket.send(_DROPPED.pack(b"D", self._dropped), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        self._dropped = 0


class RingReader:
    """Be the agent's end; one thread calls it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._generation = -1
        self._slots: Slots | None = None
        self._lent: set[int] = set()
        self.dropped = 0
        """Frames the child dropped since it began."""

    def receive(self) -> list[Arrived | Remark]:
        """Return what came, in order, without waiting; a sign of life alone gives an empty list.

        Raises:
            BlockingIOError: nothing came at all.
            EOFError: the child's end is closed, and nothing is left to read.
        """
        found: list[Arrived | Remark] = []
        heard = False
        while True:
            try:
                message, handles, _, _ = socket.recv_fds(self._socket, LONGEST_MESSAGE, 1)
            except BlockingIOError:
                if heard:
                    return found
                raise
            except ConnectionResetError:
                # Told once when the child ended with something unread; its last words come behind it.
                continue
            if not message:
                if heard:
                    return found
                raise EOFError
            heard = True
            item = self._read(message, handles)
            if item is not None:
                found.append(item)

    def lend(self) -> None:
        """Lend the child free slots until it holds enough."""
        if self._slots is None:
            return
        lent = bytearray()
        for slot in range(self._slots.count):
            if len(self._lent) >= LENT:
                break
            if slot not in self._lent and self._slots.is_free(slot):
                self._lent.add(slot)
                lent.append(slot)
        if lent:
            try:
                self._socket.send(bytes([self._generation, *lent]))
            except OSError:
                # A child that is gone, or does not read: its end shows as one, or as a stall.
                self._lent.difference_update(lent)

    def _read(self, message: bytes, handles: list[int]) -> Arrived | Remark | None:
        kind = message[:1]
        if kind == b"R":
            self._map(message, handles)
            return None
        if kind == b"F":
            return self._arrived(message)
        if kind == b"D":
            self.dropped += int(_DROPPED.unpack(message)[1])
            return None
        return Remark(kind.decode("ascii", "replace"), json.loads(message[1:]))

    def _map(self, message: bytes, handles: list[int]) -> None:
        _, self._generation, size, count = _RING.unpack(message)
        try:
            memory = mmap.mmap(handles[0], size * count)
        finally:
            for handle in handles:
                os.close(handle)
        self._slots = Slots(size, count, memoryview(memory))
        self._lent = set(range(LENT))

    def _arrived(self, message: bytes) -> Arrived | None:
        _, generation, slot, mono, wall, height, width, channels, dropped = _FRAME.unpack(message)
        self.dropped += dropped
        if self._slots is None or generation != self._generation:
            return None
        self._lent.discard(slot)
        return Arrived(self._slots.view(slot, (height, width, channels)), Moment(mono, wall))
