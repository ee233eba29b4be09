"""Look at processor, memory and disk as this process may use them: a container's share of the machine.

psutil tells of the machine; Linux's control groups tell what of it is ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.memory.cgroup import MemoryGroup
from trainer.watch.sample import HostReading

_CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class _Counters:
    """Hold counters that only grow: seconds of the allowed cores, and bytes."""

    at: float
    io_wait: float
    read_bytes: int


class ThisHost:
    """Read this machine.

    Args:
        processes: how many train together and share the cores.
        now: a steady clock in seconds.
    """

    def __init__(self, processes: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._memory = MemoryGroup.of(os.getpid())
        self._limit = (self._memory.limit() if self._memory else None) or _NO_LIMIT
        self._now = now
        self._cpus = sorted(os.sched_getaffinity(0))
        self._quota = quota_of(own_group())
        self._family = Family()
        self._before = self._counters()

    @property
    def cores(self) -> float:
        """Return how many cores' time this process may use."""
        return min(float(len(self._cpus)), self._quota or float("inf")) / self._processes

    def read(self) -> HostReading:
        """Return the state since the reading before."""
        old, new = self._before, self._counters()
        self._before = new
        span = max(new.at - old.at, 1e-6) * self.cores
        free, total = self.memory()
        used, resident = self._family.look()
        return HostReading(
            cpu_share=_share(used / span),
            io_wait=_share((new.io_wait - old.io_wait) / span),
            rss_bytes=resident,
            free_bytes=free,
            total_bytes=total,
            disk_read_bytes=max(new.read_bytes - old.read_bytes, 0),
        )

    def memory(self) -> tuple[int, int]:
        """Return the bytes this process could still take and could take in all; file caches count as free."""
        machine = psutil.virtual_memory()
        if self._memory is None or self._limit >= machine.total:
            return int(machine.available), int(machine.total)
        left = self._limit - _taken_of(self._memory)
        return max(0, min(int(machine.available), left)), self._limit

    def _counters(self) -> _Counters:
        times = psutil.cpu_times(percpu=True)
        ours = [times[cpu] for cpu in self._cpus if cpu < len(times)]
        io_wait = sum(getattr(one, "iowait", 0.0) for one in ours)
        disk = psutil.disk_io_counters()
        return _Counters(self._now(), io_wait, disk.read_bytes if disk else 0)


def own_group() -> Path:
    """Return the folder of this process's control group; the root of them all in a container."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return _CGROUPS
    for line in lines:
        if line.startswith("0::"):
            inside = _CGROUPS / line.removeprefix("0::").strip("/")
            return inside if (inside / "cpu.stat").is_file() else _CGROUPS
    return _CGROUPS


def quota_of(group: Path) -> float | None:
    """Return how many cores' time a control group may use, or None where nothing limits it."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def _field(file: Path, name: str) -> int | None:
    try:
        rows = file.read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        key, _, value = row.partition(" ")
        if key == name:
            return int(value)
    return None


def _taken_of(group: MemoryGroup) -> int:
    """Return what a group takes and could not give back: its pages without idle file caches."""
    old = group.version == 1
    try:
        used = int((group.folder / ("memory.usage_in_bytes" if old else "memory.current")).read_text())
    except (OSError, ValueError):
        return 0
    cached = _field(group.folder / "memory.stat", "total_inactive_file" if old else "inactive_file")
    return used - (cached or 0)


class Family:
    """Follow this process and its children, the loader's processes among them."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._tick = os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.look()

    def look(self) -> tuple[float, int]:
        """Return the processor seconds used since the look before, and the resident bytes now.

        Pages that parent and child share are counted twice.
        """
        used = resident = 0
        seen: dict[int, int] = {}
        for pid in (os.getpid(), *_children()):
            told = _stat_of(pid)
            if told is not None:
                seen[pid] = told[0]
                # A process born since then has used all it shows in this time.
                used += told[0] - self._ticks.get(pid, 0)
                resident += told[1]
        self._ticks = seen
        return used / self._tick, resident * self._page


def _stat_of(pid: int) -> tuple[int, int] | None:
    """Return a process's processor ticks and resident pages, or None when it ended."""
    try:
        # The name in brackets may hold anything, so fields are counted from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12]), int(fields[21])


def _children() -> list[int]:
    """Return the children's ids from the kernel's own list; a walk over all processes would cost far more."""
    found: list[int] = []
    for file in Path("/proc/self/task").glob("*/children"):
        try:
            found += [int(pid) for pid in file.read_text().split()]
        except OSError:
            continue
    return found


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
