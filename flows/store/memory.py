"""Keep objects in memory: the twin of the real store, for tests and dry runs.

It can be told to be away and counts what it was asked, so that a test can assert its fault fired.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

from flows.errors import StoreAway, StoreMissing
from flows.files import write_file
from flows.store.base import ObjectInfo


class MemoryStore:
    """Be an object store in memory, safe to use from many threads.

    Attributes:
        away: while true, every call raises `StoreAway`.
        calls: how often each verb was asked, refused calls included.
    """

    def __init__(self) -> None:
        self.away = False
        self.calls: Counter[str] = Counter()
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes) -> None:
        """Store `data`, replacing what was there."""
        self._asked("put", key)
        with self._lock:
            self._objects[key] = (bytes(data), datetime.now(timezone.utc))

    def put_file(self, key: str, path: Path) -> None:
        """Store a file's content, replacing what was there."""
        self.put(key, path.read_bytes())

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """Return an object's content; raises `StoreMissing`."""
        self._asked("get", key)
        content, _ = self._find(key)
        return content if limit is None else content[:limit]

    def get_file(self, key: str, path: Path) -> None:
        """Write an object's content to `path` by rename; raises `StoreMissing`."""
        write_file(path, self.get(key))

    def stat(self, key: str) -> ObjectInfo | None:
        """Return what lies under a key, None when nothing does."""
        self._asked("stat", key)
        with self._lock:
            found = self._objects.get(key)
        return None if found is None else ObjectInfo(key, len(found[0]), found[1])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in key order."""
        self._asked("list", prefix)
        with self._lock:
            found = sorted(item for item in self._objects.items() if item[0].startswith(prefix))
        for key, (content, modified) in found:
            yield ObjectInfo(key, len(content), modified)

    def copy(self, source: str, target: str) -> None:
        """Copy an object; raises `StoreMissing`."""
        self._asked("copy", source)
        content, _ = self._find(source)
        with self._lock:
            self._objects[target] = (content, datetime.now(timezone.utc))

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is no error."""
        self._asked("delete", key)
        with self._lock:
            self._objects.pop(key, None)

    def presign_get(self, key: str, expires: timedelta) -> str:
        """Return a URL of the scheme `memory:` that names the key and what it allows."""
        return self._sign("GET", key, expires)

    def presign_put(self, key: str, expires: timedelta) -> str:
        """Return a URL of the scheme `memory:` that names the key and what it allows."""
        return self._sign("PUT", key, expires)

    def _sign(self, verb: str, key: str, expires: timedelta) -> str:
        self._asked("presign", key)
        end = datetime.now(timezone.utc) + expires
        return f"memory://bucket/{quote(key)}?verb={verb}&expires={int(end.timestamp())}"

    def _asked(self, verb: str, key: str) -> None:
        with self._lock:
            self.calls[verb] += 1
        if self.away:
            raise StoreAway(expected="an answer", got="none: the store is away", where=key)

    def _find(self, key: str) -> tuple[bytes, datetime]:
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise StoreMissing(expected="an object", got="none", where=key)
        return found
