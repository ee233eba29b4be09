"""Know what the agent's data takes of the disk beside the outbox's examples, and clear away what is old.

The examples are counted exactly by the outbox; everything else (releases, engine caches, quarantine, logs) is
measured by a walk of the folder, at most once a minute and on the thread of whoever keeps examples.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 60.0
ENGINE_FOLDER = "engine"


class DataUsage:
    """Measure a data folder and clear it of what can be made again.

    Args:
        data_dir: the agent's; symbolic links in it are not followed.
        clock: seconds that only go forward.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.data_dir = data_dir
        self._clock = clock
        self._bytes = 0
        self._due = 0.0
        self._looked = False

    def beside_examples(self) -> int:
        """Return the bytes of everything but the examples, at most a minute old. May walk the folder."""
        now = self._clock()
        if not self._looked or now >= self._due:
            self._bytes = sum(size for _, size in _files(self.data_dir, without=self._examples()))
            self._looked, self._due = True, now + LOOK_EVERY_S
        return self._bytes

    def clear(self, wanted: int) -> int:
        """Delete what is least missed until `wanted` bytes are free; return how many were.

        First databases and examples that were set aside, then engine caches of releases that do not serve,
        then images in quarantine; within each the oldest first.
        """
        freed = 0
        for path in self._clearable():
            if freed >= wanted:
                break
            size = _size(path)
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                freed += size
        self._bytes = max(0, self._bytes - freed)
        return freed

    def _clearable(self) -> Iterator[Path]:
        yield from _oldest_first(self.data_dir / "outbox" / "damaged")
        serving = self._serving_release()
        for release in _oldest_first(self.data_dir / "releases"):
            # Without a pointer that can be read nobody knows which one serves: better keep them all.
            if serving and release.name.isdigit() and int(release.name) != serving:
                yield from (one for one in release.rglob(ENGINE_FOLDER) if one.is_dir())
        yield from _oldest_first(self.data_dir / "quarantine")

    def _serving_release(self) -> int:
        try:
            return int(json.loads((self.data_dir / "releases" / "slots.json").read_bytes())["current"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _examples(self) -> Path:
        return self.data_dir / "outbox" / "examples"


def _oldest_first(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda one: one.lstat().st_mtime_ns)
    except OSError:
        return []


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(size for _, size in _files(path))
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _files(folder: Path, without: Path | None = None) -> Iterator[tuple[str, int]]:
    """Give every file under a folder with its bytes; what vanishes meanwhile is passed over."""
    pending = [str(folder)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    yield entry.path, entry.stat(follow_symlinks=False).st_size
                elif without is None or Path(entry.path) != without:
                    pending.append(entry.path)
