"""Tell what a host is: cores, memory, disk and NVIDIA cards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_ASK_SECONDS = 10.0
_MIB = 2**20
_GROUPS = Path("/sys/fs/cgroup")
"""Within a container, its own group."""


def look(folder: Path) -> dict[str, Any]:
    """Return the host's hardware and Python; `cards_why` says why a driver named no cards."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    cards, why = _cards()
    return {
        "cpu_count": cores(len(os.sched_getaffinity(0))),
        "memory_mib": memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // _MIB,
        "disk_mib": shutil.disk_usage(there).free // _MIB,
        "cards": cards,
        "cards_why": why,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def memory(whole: int, groups: Path = _GROUPS) -> int:
    """Return the bytes of memory that may be used: a rented box is often a container on a larger machine."""
    told = [_read(groups / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([whole, *(int(one) for one in told if one.isdecimal() and int(one) > 0)])


def cores(whole: int, groups: Path = _GROUPS) -> int:
    """Return how many cores may be used, at least one: a container's share of time is a limit too."""
    quota, _, period = _read(groups / "cpu.max").partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period) > 0):
        return whole
    return max(min(whole, int(quota) // int(period)), 1)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _cards() -> tuple[list[tuple[str, int]], str]:
    if shutil.which(_ASK[0]) is None:
        return [], ""
    try:
        asked = subprocess.run(_ASK, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True)
        rows = [line.rsplit(",", 1) for line in asked.stdout.strip().splitlines()]
        return [(name.strip(), int(float(memory))) for name, memory in rows], ""
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [], f"{type(error).__name__}: {error}"[:200]
