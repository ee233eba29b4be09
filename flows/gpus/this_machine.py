"""Describe the machine we run on as an offer needs it: cores, memory, disk, and NVIDIA cards if any."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

log = logging.getLogger("whetstone.gpus")

_ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_ASK_SECONDS = 10.0
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cards:
    """Hold the cards of a machine that can train together: those of the first one's kind."""

    name: str
    count: int
    memory_mib: int


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def memory_mib() -> int:
    """Return the machine's memory."""
    return int(psutil.virtual_memory().total) // _MIB


def disk_mib(folder: Path) -> int:
    """Return the free disk under a folder; its nearest parent counts where it is not there yet."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return shutil.disk_usage(there).free // _MIB


def cards() -> Cards | None:
    """Return the NVIDIA cards of this machine, None without a driver that answers."""
    if shutil.which(_ASK[0]) is None:
        return None
    try:
        asked = subprocess.run(_ASK, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True)
        rows = [line.rsplit(",", 1) for line in asked.stdout.strip().splitlines()]
        found = [(name.strip(), int(float(memory))) for name, memory in rows]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        log.warning("gpus.driver_does_not_answer error=%s", error)
        return None
    alike = [one for one in found if one == found[0]]
    return Cards(alike[0][0], len(alike), alike[0][1]) if alike else None
