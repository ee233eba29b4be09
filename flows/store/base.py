"""Say what the cloud side needs of an object store; only these verbs, and only our errors come out.

Whole objects appear or do not: a reader never sees half a `put`. There is no conditional write and
no lock here, because the stores in use have none that can be relied on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Say what lies under a key: size in bytes, time of the last write."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """Keep bytes under keys in one bucket.

    Every method may raise `StoreAway` (try later) and `StoreRefused` (it will not work like this).
    """

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, replacing what was there."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Store a file's content, replacing what was there."""
        ...

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's content, at most its first `limit` bytes; raises `StoreMissing`."""
        ...

    def get_file(self, key: str, path: Path) -> None:
        """Write an object's content to `path` by rename; raises `StoreMissing`."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what lies under a key, None when nothing does."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in key order."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the bucket; raises `StoreMissing`."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        ...

    def presign_get(self, key: str, expires: timedelta) -> str:
        """Return a URL that reads one object for a while, signed for the address others reach it by."""
        ...

    def presign_put(self, key: str, expires: timedelta) -> str:
        """Return a URL that writes one object for a while, signed for the address others reach it by."""
        ...
