"""Write files so that a power cut leaves the old content or the new, never a part of either."""

from __future__ import annotations

import os
import shutil
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


def move_aside(path: Path, folder: Path) -> Path:
    """Move a file or folder into `folder` under a name that is free there, and return its new path.

    Raises:
        OSError: it cannot be moved; it lies where it lay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, number = folder / path.name, 0
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    shutil.move(path, target)
    return target
