"""Remember the last frames, so that a command can ask for what was there before it came."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.outbox.writer import KeptFrame


class RecentFrames:
    """Be a short ring of inspected frames, by reference: nothing is copied, nothing waits.

    Each frame remembered is a frame's memory (6 MB at 1080p), and a buffer its source cannot use again.

    Args:
        size: how many frames are remembered; 0 = none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._frames: deque[KeptFrame] = deque(maxlen=size)

    def add(self, kept: KeptFrame) -> None:
        """Remember a frame; its reasons are empty unless it was kept already. For the loop's thread."""
        if self.size:
            with self._lock:
                self._frames.append(kept)

    def take(self, frames: int) -> tuple[KeptFrame, ...]:
        """Hand out the newest frames that were not kept, oldest first, and forget them all."""
        if not self.size or frames <= 0:
            return ()
        with self._lock:
            known = tuple(self._frames)[-frames:]
            self._frames.clear()
        return tuple(one for one in known if not one.reasons)
