"""Hold a little of the disk back, for SQLite needs room even to delete.

On a disk that others have filled to the last block nothing could leave the outbox: neither the decision to
let an example go nor its receipt can be written, and the database's log cannot be folded in. The reserve is
given up for that moment, and taken again from what it set free.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 256 * 1024


class Reserve:
    """Be a file of `size` bytes that stands for room on the disk."""

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size

    def give_up(self) -> None:
        """Give its room to whoever writes next."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def take(self) -> None:
        """Hold the room again; nothing happens when there is none, or when it is held already."""
        if self._path.exists():
            return
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(handle, 0, self._size)
        except OSError:
            self.give_up()
        finally:
            os.close(handle)
