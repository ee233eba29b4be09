"""Read images from a folder, oldest first, and watch it for new ones.

Writers put files by rename. What cannot be decoded is moved to the quarantine and counted, so that it is
neither tried for ever nor lost. Names that were read are remembered by the outbox's progress table, so
that a restart goes on behind them.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np

from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.errors import FrameUnreadable, SourceError
from edge_agent.events import Events
from edge_agent.files import move_aside
from edge_agent.sources.base import Frame, Image, part_of_name
from edge_agent.sources.faults import is_whole_jpeg

JPEG_EXTENSIONS = (".jpg", ".jpeg")
MAX_FILE_BYTES = 32 * 1024 * 1024
SETTLE_S = 1.0
"""An unreadable file younger than this may still be written by a careless writer; it is tried again."""
RESCAN_S = 5.0
"""A folder is read again after so long even if its modification time stood still."""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Say what to read and where to put what cannot be read."""

    folder: Path
    quarantine: Path | None
    """None: what cannot be decoded, and so cannot be masked, is deleted."""
    extensions: tuple[str, ...]
    follow: bool = True


class FolderReader:
    """Give the images of a folder, each once."""

    def __init__(
        self, options: FolderOptions, seen: Iterable[str], counters: Counters, events: Events
    ) -> None:
        self._options = options
        self._suffixes = tuple("." + name.lower().lstrip(".") for name in options.extensions)
        self._seen = set(seen)
        self._counters = counters
        self._events = events
        self._waiting: deque[str] = deque()
        self._folder_time = -1
        self._scanned_at = 0.0
        self._ended = False

    def read(self, wait_s: float) -> Frame | None:
        """Return the next readable image; waits by polling the folder's modification time."""
        deadline = time.monotonic() + wait_s
        while True:
            if not self._waiting:
                self._scan()
            while self._waiting:
                frame = self._load(self._waiting.popleft())
                if frame is not None:
                    return frame
            if not self._options.follow and not self._has_unsettled():
                self._ended = True
                return None
            if time.monotonic() >= deadline:
                return None
            time.sleep(min(0.02, wait_s))

    def is_ended(self) -> bool:
        """Tell whether all images were read and the folder is not watched."""
        return self._ended

    def close(self) -> None:
        """Do nothing: no handle is kept open."""

    def _scan(self) -> None:
        """List new names, oldest first, if the folder may have changed since the last look."""
        folder = self._options.folder
        try:
            folder_time = folder.stat().st_mtime_ns
            settled = time.time_ns() - folder_time > 1_000_000_000
            fresh = time.monotonic() - self._scanned_at < RESCAN_S
            if folder_time == self._folder_time and settled and fresh:
                return
            wanted = [entry for entry in os.scandir(folder) if self._is_wanted(entry.name)]
            found = [(_modified_ns(entry), entry.name) for entry in wanted]
        except OSError as error:
            raise SourceError(
                expected="a folder of images",
                got=str(error.strerror),
                where=str(folder),
                now="Create or mount the folder; the agent looks again by itself.",
            ) from error
        self._folder_time, self._scanned_at = folder_time, time.monotonic()
        self._waiting.extend(name for modified, name in sorted(found) if modified >= 0)
        self._seen.update(self._waiting)

    def _is_wanted(self, name: str) -> bool:
        return name not in self._seen and name.lower().endswith(self._suffixes) and not name.startswith(".")

    def _has_unsettled(self) -> bool:
        """Look once more, for files put back because they may still be written."""
        self._folder_time = -1
        self._scan()
        return bool(self._waiting)

    def _load(self, name: str) -> Frame | None:
        path = self._options.folder / name
        try:
            modified = path.stat().st_mtime
            image, content = _read_image(path)
        except FileNotFoundError as error:
            self._events.note("source.vanished", file=name, problem=error.strerror)
            return None
        except OSError as error:
            problem = FrameUnreadable(expected="a file's times", got=str(error.strerror), where=str(path))
            self._set_aside(path, problem, age_s=SETTLE_S)
            return None
        except FrameUnreadable as error:
            self._set_aside(path, error, age_s=time.time() - modified)
            return None
        part_id, number = part_of_name(path.stem)
        return Frame(
            image=image,
            captured_at=datetime.fromtimestamp(int(modified * 1000) / 1000, tz=timezone.utc),
            part_id=part_id,
            frame_in_part=number,
            token=name,
            jpeg=content if path.suffix.lower() in JPEG_EXTENSIONS else None,
        )

    def _set_aside(self, path: Path, error: FrameUnreadable, *, age_s: float) -> None:
        if 0 <= age_s < SETTLE_S:
            self._seen.discard(path.name)
            self._folder_time = -1
            time.sleep(0.02)
            return
        self._counters.add(names.UNREADABLE)
        self._events.note("source.unreadable", file=path.name, expected=error.expected, got=error.got)
        try:
            if self._options.quarantine is None:
                path.unlink(missing_ok=True)
            else:
                move_aside(path, self._options.quarantine)
        except OSError as problem:
            # It stays where it is and is not tried again by this process.
            self._events.note("source.quarantine-failed", file=path.name, problem=str(problem))


def _modified_ns(entry: os.DirEntry[str]) -> int:
    """Return when an entry was written, -1 for one that points nowhere or is gone again."""
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def _read_image(path: Path) -> tuple[Image, bytes]:
    """Read and decode an image file.

    Raises:
        FileNotFoundError: somebody took it away.
        FrameUnreadable: it is there, and cannot be read or decoded.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        got = str(error.strerror)
        raise FrameUnreadable(expected="a file that can be read", got=got, where=str(path)) from error
    return decode_image(content, where=str(path)), content


def decode_image(content: bytes, *, where: str) -> Image:
    """Decode an image file to BGR.

    Raises:
        FrameUnreadable: empty, cut off, too large or no image; the message names the file.
    """
    if not content:
        raise FrameUnreadable(expected="an image file", got="zero bytes", where=where)
    if len(content) > MAX_FILE_BYTES:
        raise FrameUnreadable(expected=f"at most {MAX_FILE_BYTES} bytes", got=str(len(content)), where=where)
    if content.startswith(b"\xff\xd8") and not is_whole_jpeg(content):
        # cv2 fills the missing part of a cut-off JPEG with grey, which would be a wrong picture of the part.
        raise FrameUnreadable(
            expected="a whole JPEG", got=f"{len(content)} bytes without an end", where=where
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise FrameUnreadable(expected="an image file", got=str(error)[:200], where=where) from error
    if image is None:
        raise FrameUnreadable(
            expected="an image file", got=f"{len(content)} bytes no codec reads", where=where
        )
    return image
