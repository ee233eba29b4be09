"""Write the update's files so that a power cut leaves the old state or the new one.

`Disk` is the only door through which this package changes what a restart will find, so that tests can cut
the power at every one of its steps.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


class Disk:
    """Flush, rename and remove files; each public verb is one step that a power cut may hit."""

    def write(self, path: Path, content: bytes) -> None:
        """Replace a small file as a whole: temp file, flush, rename, flush the folder."""
        temporary = path.with_name(f".{path.name}.new")
        try:
            temporary.write_bytes(content)
            self.sync(temporary)
            self.rename(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def sync(self, path: Path) -> None:
        """Flush a file's content."""
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Rename within one file system and flush the folder, so that the new name survives."""
        source.replace(target)
        handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder; one that is not there is no error."""
        if folder.exists():
            shutil.rmtree(folder)
