"""Move bytes over HTTP: one port with two verbs, the real one on urllib3, and a twin in memory.

Presigned URLs are secrets: they appear in no log line and no error message, only the object's name does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

CHUNK_BYTES = 1 << 16
"""A broken answer loses at most the chunk it broke in."""
_CONNECTIONS = 8
"""Connections kept open to one host: shards come several at a time, and reports go beside them."""


class WireDown(Exception):
    """Tell that no answer came: refused, cut, or too slow; another attempt may help."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold an answer; `chunks` yields the body once and may raise `WireDown`."""

    status: int
    chunks: Iterator[bytes]
    date: str = ""
    """When the server answered, by its own clock, as its Date header says it."""

    def body(self, limit: int) -> bytes:
        """Return the body, cut after `limit` bytes."""
        content = bytearray()
        for chunk in self.chunks:
            content += chunk
            if len(content) >= limit:
                break
        return bytes(content[:limit])


class Wire(Protocol):
    """Be a way to objects behind URLs."""

    def get(self, url: str, *, start: int = 0, length: int = 0) -> Reply:
        """Ask for an object from byte `start` on, for `length` bytes unless that is 0.

        Status 206 says that the answer begins at `start`; more bytes than asked for may come.
        """

    def put(self, url: str, content: bytes | memoryview) -> int:
        """Store an object and return the status."""


class HttpWire:
    """Speak HTTP with time limits and without retries; attempts are counted above."""

    def __init__(self, *, connect_seconds: float = 10.0, read_seconds: float = 60.0) -> None:
        import urllib3

        self._errors = urllib3.exceptions.HTTPError
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds), retries=False,
            maxsize=_CONNECTIONS,
        )  # fmt: skip

    def get(self, url: str, *, start: int = 0, length: int = 0) -> Reply:
        """Ask for an object from byte `start` on, for `length` bytes unless that is 0."""
        last = str(start + length - 1) if length else ""
        headers = {"Range": f"bytes={start}-{last}"} if start or length else {}
        try:
            answer = self._pool.request("GET", url, headers=headers, preload_content=False)
        except (self._errors, OSError) as error:
            raise WireDown(type(error).__name__) from error
        # rclone's S3 server answers a range with 200, and only its Content-Range tells where it begins.
        begins_there = start > 0 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        date = answer.headers.get("Date", "")
        return Reply(206 if begins_there else int(answer.status), self._chunks(answer), date)

    def _chunks(self, answer: object) -> Iterator[bytes]:
        stream = answer.stream(CHUNK_BYTES)  # type: ignore[attr-defined]  # urllib3's base type hides it
        try:
            yield from stream
        except (self._errors, OSError) as error:
            raise WireDown(type(error).__name__) from error
        finally:
            answer.release_conn()  # type: ignore[attr-defined]  # likewise

    def put(self, url: str, content: bytes | memoryview) -> int:
        """Store an object and return the status."""
        try:
            return int(self._pool.request("PUT", url, body=cast("bytes", content)).status)
        except (self._errors, OSError) as error:
            raise WireDown(type(error).__name__) from error


@dataclass
class MemoryWire:
    """Be a store in memory that can cut the line, forbid URLs and count what was asked.

    `cuts` holds how many bytes the next answers give before they break off, `date` what its clock says.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    away: bool = False
    date: str = ""
    log: list[tuple[str, str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, url: str, *, start: int = 0, length: int = 0) -> Reply:
        """Answer as an object store would."""
        with self._lock:
            self.log.append(("GET", url, start))
            if self.away:
                raise WireDown("away")
            if url in self.forbidden:
                return Reply(403, iter(()))
            if url not in self.objects:
                return Reply(404, iter(()))
            content = self.objects[url][start : start + length if length else None]
            cut = self.cuts.pop(0) if self.cuts else None
        return Reply(206 if start or length else 200, _broken_off(content, cut), self.date)

    def put(self, url: str, content: bytes | memoryview) -> int:
        """Keep the object."""
        with self._lock:
            self.log.append(("PUT", url, len(content)))
            if self.away:
                raise WireDown("away")
            if url in self.forbidden:
                return 403
            self.objects[url] = bytes(content)
        return 200


def _broken_off(content: bytes, cut: int | None) -> Iterator[bytes]:
    yield content if cut is None else content[:cut]
    if cut is not None:
        raise WireDown("cut")
