"""Bound how many bytes per second go out: one bucket of tokens that all uploads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

CHUNK_BYTES = 16 * 1024
"""Bytes that go out between two looks at the bucket."""
BURST_S = 1.0
"""Seconds' worth of bytes that may go out at once after a pause."""


class TokenBucket:
    """Give out leave to send bytes, at `bytes_per_s` on average; 0 = no limit.

    Args:
        bytes_per_s: the limit.
        clock: seconds that only go forward.
    """

    def __init__(self, bytes_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_per_s = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = min(bytes_per_s * BURST_S, float(CHUNK_BYTES))
        self._filled_at = clock()

    def take(self, count: int) -> float:
        """Take leave for `count` bytes and return how many seconds to wait before sending them.

        What is taken in advance is owed, so that a chunk larger than the bucket is no special case and
        several takers share the limit.
        """
        if self.bytes_per_s <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            filled = self._tokens + (now - self._filled_at) * self.bytes_per_s
            self._tokens = min(filled, max(self.bytes_per_s * BURST_S, CHUNK_BYTES)) - count
            self._filled_at = now
            return max(0.0, -self._tokens / self.bytes_per_s)

    def seconds_for(self, count: int) -> float:
        """Return how long `count` bytes take at the limit; 0 without one."""
        return count / self.bytes_per_s if self.bytes_per_s > 0 else 0.0


class PacedBody:
    """Be the body of a request: read in chunks, each only when the bucket gives leave.

    Args:
        content: what is sent.
        bucket: shared by all bodies.
        closed: set to give up in the middle.
    """

    def __init__(self, content: bytes, bucket: TokenBucket, closed: threading.Event) -> None:
        self._content = memoryview(content)
        self._bucket = bucket
        self._closed = closed
        self._place = 0

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """Return the next bytes, b"" at the end; waits for the bucket.

        Raises:
            InterruptedError: closed meanwhile.
        """
        chunk = bytes(self._content[self._place : self._place + min(max(size, 1), CHUNK_BYTES)])
        if chunk and self._closed.wait(self._bucket.take(len(chunk))):
            raise InterruptedError("the uploader was closed")
        self._place += len(chunk)
        return chunk
