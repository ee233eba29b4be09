"""Write files so that a power cut leaves the old content or the new, never a part of either."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file, fsync, rename; the caller still syncs the folder.

    Raises:
        OSError: the temporary file is removed and `path` is as it was.
    """
    # (1) A name of its own per process, so that two writers never share a temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # (2) All bytes reach the disk before the name does.
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # (3) The name changes hands in one step.
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it so that they survive a power cut; what is there stays.

    Raises:
        OSError: it cannot be made, or something that is no folder is in the way.
    """
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        # Above our own folders lies what the system may not let us read; it has its own ways to be durable.
        with suppress(PermissionError):
            sync_folder(made.parent)


def move_aside(path: Path, folder: Path, *, keep: int = 0) -> Path:
    """Move a file or folder into `folder` under a name that is free there, and return its new path.

    Args:
        path: what is moved.
        folder: made when it is missing.
        keep: delete the oldest files in `folder` beyond so many, 0 = none.

    Raises:
        OSError: it cannot be moved; it lies where it lay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 0
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    shutil.move(path, target)
    if keep:
        _keep_newest(folder, keep)
    return target


def _keep_newest(folder: Path, keep: int) -> None:
    files = sorted((one for one in folder.iterdir() if one.is_file()), key=lambda one: one.stat().st_ctime_ns)
    for old in files[:-keep]:
        old.unlink(missing_ok=True)
