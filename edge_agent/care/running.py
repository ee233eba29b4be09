"""Tell whether an agent runs, by the lock of its data folder, without asking it."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_running(lock_file: Path) -> bool:
    """Tell whether somebody holds the lock of the data folder."""
    try:
        with lock_file.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
