"""Say what the machine is, and whether somebody else uses it while figures are taken."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

QUIET_LOAD = 0.3
"""Load of the last minute above which figures are not to be trusted."""
PACKAGES = ("onnxruntime", "opencv-python-headless", "numpy", "ultralytics", "torch")


def describe_machine() -> dict[str, object]:
    """Return model, clock, cores, versions and load as they are now."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu_field("model name"),
        "cpu_family_model": f"{_cpu_field('cpu family')}/{_cpu_field('model')}",
        "mhz": _cpu_field("cpu MHz"),
        "cores": os.cpu_count(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or "not told",
        "virtual": " hypervisor" in Path("/proc/cpuinfo").read_text(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "load_at_start": os.getloadavg()[0],
    }


def is_quiet(machine: dict[str, object]) -> bool:
    """Tell whether nothing else ran when the bench began."""
    load = machine["load_at_start"]
    return isinstance(load, float) and load <= QUIET_LOAD


def core_busy_s(cores: Sequence[int]) -> float:
    """Return the seconds that some cores have worked, for anybody, the hypervisor's other guests included."""
    seconds = 0.0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _wait, hard, soft, stolen = (int(number) for number in numbers[:8])
            seconds += (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return seconds


def rest_on(core: int) -> None:
    """Let this process, which only waits, wait on another core than the measured one."""
    if core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})


def _cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "not told"


def _first_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[0]
    except (OSError, IndexError):
        return ""


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
