"""Read files from the release server: the one door to the network in this package.

`HttpServer` is the real one; `MemoryServer` keeps files in memory and can cut the line, answer without
end or be away, for tests and for boxes that are updated from a stick.

    >>> MemoryServer({"metadata/timestamp.json": b"{}"}).open("metadata/timestamp.json").read_all(10)
    b'{}'
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import urllib3

from edge_agent.ota.errors import SourceAway, SourceMissing

CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class Opened:
    """Hold a running answer: `start` is the offset its first byte has in the file."""

    start: int
    chunks: Iterator[bytes]

    def read_all(self, limit: int) -> bytes:
        """Read a small file whole; stop one byte after `limit`, so that a longer one shows."""
        content = bytearray()
        for chunk in self.chunks:
            content += chunk
            if len(content) > limit:
                break
        return bytes(content[: limit + 1])


class ReleaseServer(Protocol):
    """Give files below the releases prefix."""

    def open(self, path: str, start: int = 0) -> Opened:
        """Begin to read a file, from `start` if the server can.

        Raises, here or while reading:
            SourceMissing: there is no such file.
            SourceAway: no answer, a broken line, or an answer too slow to be of use.
        """
        ...


@dataclass(frozen=True, slots=True)
class HttpServer:
    """Read over HTTP or HTTPS.

    Args:
        url: base, ends with a slash.
        gap_s: longest wait for the connection and between two pieces.
        total_s: longest time for one answer; what was read is kept and resumed, a drip feed is not.
        ca_file: who signs the server's certificate; None = the system's authorities.
    """

    url: str
    gap_s: float = 20.0
    total_s: float = 1800.0
    ca_file: Path | None = None
    _pool: urllib3.PoolManager = field(init=False, repr=False)

    def __post_init__(self) -> None:
        authorities = None if self.ca_file is None else str(self.ca_file)
        pool = urllib3.PoolManager(retries=False, maxsize=2, ca_certs=authorities)
        object.__setattr__(self, "_pool", pool)

    def open(self, path: str, start: int = 0) -> Opened:
        """Begin to read a file; a server that ignores ranges answers from the first byte."""
        url = self.url + quote(path)
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=False,
                                          timeout=urllib3.Timeout(connect=self.gap_s, read=self.gap_s))
        except urllib3.exceptions.HTTPError as error:
            raise _away(url, error) from error
        if response.status not in (200, 206):
            response.close()
            if response.status in (403, 404):
                raise SourceMissing(got=f"HTTP {response.status}", where=url, status=response.status)
            raise SourceAway(expected="HTTP 200 or 206", got=f"HTTP {response.status}", where=url)
        return Opened(start if response.status == 206 else 0, self._chunks(response, url))

    def _chunks(self, response: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
        deadline = time.monotonic() + self.total_s
        ended = False
        try:
            while chunk := response.read1(CHUNK_BYTES):
                yield chunk
                if time.monotonic() > deadline:
                    raise SourceAway(expected=f"the file within {self.total_s:g} s",
                                     got="a slower answer", where=url)
            ended = True
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _away(url, error) from error
        finally:
            if ended:
                response.release_conn()
            else:
                response.close()


@dataclass(slots=True)
class MemoryServer:
    """Give files from memory; the twin of the real server.

    Attributes:
        files: content by path.
        away: while true nothing answers.
        cut_after: bytes after which every answer breaks off, None = never.
        endless: paths that are answered without end.
        asked: how often each path was asked for.
    """

    files: MutableMapping[str, bytes]
    away: bool = False
    cut_after: int | None = None
    endless: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    ranges: list[int] = field(default_factory=list)

    def open(self, path: str, start: int = 0) -> Opened:
        """Begin to read a file."""
        self.asked[path] += 1
        if self.away:
            raise SourceAway(expected="an answer", got="none: the server is away", where=path)
        if path not in self.files:
            raise SourceMissing(got="no such file", where=path, status=404)
        self.ranges.append(start)
        return Opened(start, self._chunks(path, start))

    def _chunks(self, path: str, start: int) -> Iterator[bytes]:
        content = self.files[path][start:]
        sent = 0
        for position in range(0, len(content), 4096):
            if self.cut_after is not None and sent >= self.cut_after:
                self.cuts += 1
                raise SourceAway(expected="the rest of the file", got="a broken line", where=path)
            sent += len(content[position : position + 4096])
            yield content[position : position + 4096]
        while path in self.endless:
            yield b"\0" * 4096


def _away(url: str, error: Exception) -> SourceAway:
    return SourceAway(expected="an answer from the release server", got=f"{type(error).__name__}: {error}",
                      where=url, now="The old model keeps serving; the box asks again.")
