"""Fetch one signed file of a release: resumed after every break, limited in rate, verified, flushed.

The unfinished file carries its hash in its name, so a resumed download can never continue another file.

    00-incoming/000007/<sha256>.part  ->  00-incoming/000007/model.onnx
"""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.ota.disk import Disk
from edge_agent.ota.errors import Interrupted, OtaError, TargetRefused
from edge_agent.ota.server import Opened, ReleaseServer
from edge_agent.ota.tuf_client import Target


@dataclass(frozen=True, slots=True)
class Downloader:
    """Fetch files of a release.

    Args:
        server: where they are read.
        disk: how they are made durable.
        bytes_per_s: rate limit, 0 = none.
    """

    server: ReleaseServer
    disk: Disk
    bytes_per_s: int = 0

    def fetch(self, target: Target, to: Path, stop: threading.Event) -> None:
        """Bring `target` to `to`; does nothing when the verified file is there already.

        Steps: (1) go on where an earlier attempt broke off; (2) flush; (3) verify what is on the disk, not
        what came over the line; (4) rename. When `stop` is set it is put down within one chunk.

        Raises:
            SourceAway: the line broke; what was read is kept for the next attempt.
            TargetRefused: the whole file is not what was signed; what was read is thrown away.
            Interrupted: the agent is stopping.
            OtaError: the disk is full; what was read is thrown away, to leave room for examples.
        """
        if to.exists() and _matches(to, target):
            return
        part = to.with_name(f"{target.sha256}.part")
        try:
            self._fill(target, part, stop)  # (1)
            self.disk.sync(part)  # (2)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            part.unlink(missing_ok=True)
            raise OtaError(expected=f"room for {target.length} bytes", got="a full disk",
                           where=str(part.parent),
                           now="Free some space; the old model keeps serving.") from error
        if not _matches(part, target):  # (3)
            got = part.stat().st_size
            part.unlink()
            raise TargetRefused(expected=f"{target.length} bytes, sha256 {target.sha256}",
                                got=f"{got} bytes of another content", where=target.name,
                                now="The server or the line altered the file; it is fetched anew.")
        self.disk.rename(part, to)  # (4)

    def _fill(self, target: Target, part: Path, stop: threading.Event) -> None:
        have = part.stat().st_size if part.exists() else 0
        if have == target.length and part.exists():
            return
        if have > target.length:
            have = 0
        answer = self.server.open(target.path, have)
        with part.open("r+b" if answer.start else "wb") as file:
            file.truncate(answer.start)
            file.seek(answer.start)
            for chunk in self._paced(answer, stop):
                file.write(chunk)
                if file.tell() > target.length:
                    break

    def _paced(self, answer: Opened, stop: threading.Event) -> Iterator[bytes]:
        began, read = time.monotonic(), 0
        for chunk in answer.chunks:
            read += len(chunk)
            due = read / self.bytes_per_s if self.bytes_per_s else 0.0
            early = max(0.0, began + due - time.monotonic())
            if stop.is_set() or (early > 0.0 and stop.wait(early)):
                raise Interrupted(expected="time to finish", got="the agent is stopping", where="download")
            yield chunk


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _matches(path: Path, target: Target) -> bool:
    return path.stat().st_size == target.length and file_sha256(path) == target.sha256
