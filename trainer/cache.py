"""Keep fetched objects on disk by their hash, shared by the runs of a machine, within a bound.

    folder/
        <sha256>          whole and verified, named after its hash was checked
        <sha256>.part     begun; goes on from its end after a death at any moment

Locks are the kernel's (flock) on these very files, so that a killed run leaves none behind: a shared lock
says "in use" and keeps a file from being evicted, an exclusive one says "I write it" or "I take it away".
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_log = logging.getLogger("whetstone.trainer")
GIB = 1 << 30
DEFAULT_LIMIT_BYTES = 50 * GIB
_OURS = re.compile(r"^[0-9a-f]{64}(\.part)?$")
_KEPT_FREE_BYTES = 256 << 20
_CHUNK = 1 << 20
_POLL_SECONDS = 0.2


class ObjectCache:
    """Keep objects by hash; safe between threads and between processes.

    Args:
        folder: where they lie; may be shared by runs.
        limit_bytes: what they may take together. Least recently used ones go first, none that is in use;
            where all are in use the bound gives way, not the run.
    """

    def __init__(self, folder: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._held: dict[str, int] = {}
        self._verified: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, sha256: str) -> Path | None:
        """Return an object's file and keep it from eviction until `release`; None when it is not there.

        Its hash is computed at the first use by this process; a file that fails is thrown away.
        """
        path = self._folder / sha256
        with self._lock:
            if sha256 in self._held:
                return path
        handle = _open_locked(path, fcntl.LOCK_SH)
        if handle is None:
            return None
        if not self._is_right(path, handle, sha256):
            _log.warning("cache.damaged object=%s", sha256)
            if _is_still(path, handle):  # else somebody else threw it away already
                path.unlink(missing_ok=True)
            os.close(handle)
            return None
        os.utime(handle)
        self._hold(sha256, handle)
        return path

    def release(self, sha256: str) -> None:
        """Let an object be evicted again."""
        with self._lock:
            handle = self._held.pop(sha256, None)
        if handle is not None:
            os.close(handle)

    def close(self) -> None:
        """Release everything."""
        for sha256 in tuple(self._held):
            self.release(sha256)

    @contextmanager
    def part(self, sha256: str, size_bytes: int, pause: Callable[[float], None]) -> Iterator[Part]:
        """Be the only one who writes an object, from where whoever began it got to.

        Waits while another thread or process writes it. Room is made first.
        """
        path = self._folder / f"{sha256}.part"
        handle = _create_locked(path)
        while handle is None:
            pause(_POLL_SECONDS)
            handle = _create_locked(path)
        part = Part(path, handle)
        try:
            self.make_room(size_bytes - part.size)
            yield part
        finally:
            part.close()

    def keep(self, part: Part, sha256: str) -> Path:
        """Give a verified part its name; it is in use from this moment on."""
        path = self._folder / sha256
        # The lock is still exclusive here: whoever finds the name waits until it is a shared one.
        part.path.replace(path)
        handle = part.give_up_lock()
        with self._lock:
            self._verified.add((sha256, os.fstat(handle).st_ino))
        self._hold(sha256, handle)
        self.make_room(0)
        return path

    def make_room(self, needed_bytes: int) -> None:
        """Evict what was used longest ago until so many bytes fit under the bound and on the disk."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            over = total + needed_bytes > self._limit
            tight = shutil.disk_usage(self._folder).free < needed_bytes + _KEPT_FREE_BYTES
            if not over and not tight:
                return
            if _evict(path):
                total -= size

    def bytes_of(self, wanted: Iterable[str]) -> int:
        """Return the bytes that are here of some objects, whole or begun; none is verified for that."""
        files = (self._folder / f"{sha256}{end}" for sha256 in wanted for end in ("", ".part"))
        return sum(file.stat().st_size for file in files if file.is_file())

    def size(self) -> int:
        """Return the bytes that all objects take."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> list[tuple[int, int, Path]]:
        """Return time of last use, size and path of every file, the longest unused first."""
        found = []
        for path in self._folder.iterdir():
            if _OURS.match(path.name):
                with suppress(FileNotFoundError):
                    told = path.stat()
                    found.append((told.st_mtime_ns, told.st_size, path))
        return sorted(found)

    def _is_right(self, path: Path, handle: int, sha256: str) -> bool:
        known = (sha256, os.fstat(handle).st_ino)
        with self._lock:
            if known in self._verified:
                return True
        if hash_of(path).hexdigest() != sha256:
            return False
        with self._lock:
            self._verified.add(known)
        return True

    def _hold(self, sha256: str, handle: int) -> None:
        with self._lock:
            before = self._held.setdefault(sha256, handle)
        if before != handle:
            os.close(handle)


class Part:
    """Be an object that is being written, under an exclusive lock."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle: int | None = handle

    @property
    def size(self) -> int:
        """Return the bytes written so far."""
        return os.fstat(self._open()).st_size

    def append(self, chunk: bytes) -> None:
        """Write more; what was written survives the death of this process."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._open(), view) :]

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._open(), 0)

    def drop(self) -> None:
        """Throw the part away."""
        with suppress(FileNotFoundError):
            self.path.unlink()

    def give_up_lock(self) -> int:
        """Turn the exclusive lock into a shared one and hand its handle over."""
        handle = self._open()
        fcntl.flock(handle, fcntl.LOCK_SH)
        self._handle = None
        return handle

    def close(self) -> None:
        """Let others write."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} was closed")
        return self._handle


def hash_of(path: Path) -> hashlib._Hash:
    """Return the running SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest


def _open_locked(path: Path, lock: int) -> int | None:
    """Open a file under a lock, or return None when it is not there or went away while we waited."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, lock)
        if _is_still(path, handle):
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _create_locked(path: Path) -> int | None:
    """Open a part for writing at its end, alone; None when somebody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(path, handle):
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _evict(path: Path) -> bool:
    handle = _open_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if handle is None:
        return False
    try:
        path.unlink()
        _log.info("cache.evicted object=%s", path.name)
    finally:
        os.close(handle)
    return True


def _is_still(path: Path, handle: int) -> bool:
    """Say whether a path still names the file that was opened: it may have been renamed or evicted since."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(handle).st_ino
    return False
