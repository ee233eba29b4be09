"""Write `summary.json`: a flat object of the figures' names, with the machine and the date."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from fleet_contracts import utc_now
from flows.files import write_file

FILE_NAME = "summary.json"
Figure = float | int | str | None


def machine() -> str:
    """Describe this machine in words: processor, cores, memory, Python."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def write_summary(folder: Path, figures: Mapping[str, Figure]) -> Path:
    """Write the figures and return the file."""
    path = folder / FILE_NAME
    content = {**figures, "machine": machine(), "date": utc_now().isoformat()}
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
