"""Say what bringing bytes to a presigned URL means. The real one is `http`, its twin is `memory`."""

from __future__ import annotations

from typing import Protocol


class Putter(Protocol):
    """Put bytes where a presigned URL points."""

    def put(self, url: str, content: bytes, media_type: str) -> None:
        """Put `content`; returning means the store answered with success, not that it is safe.

        Raises:
            StoreAway: no connection, no answer in time, or the store is overloaded; try later.
            UploadRefused: the store refuses this URL; a new grant is needed.
        """

    def close(self) -> None:
        """Let go of open connections."""
