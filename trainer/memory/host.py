"""Read this machine's memory as a training feels it: the process with its workers, against RAM and limits."""

from __future__ import annotations

import resource

import psutil

from trainer.memory.cgroup import MemoryGroup
from trainer.memory.port import Kind


class HostMemory:
    """Be the `DeviceMemory` of a process on this machine, its children (loader workers) included.

    A cap on address space (`RLIMIT_AS`) counts as a limit of its own: whichever is nearer is told.
    """

    kind: Kind = "host"

    def __init__(self, pid: int | None = None) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        group = MemoryGroup.of(self._process.pid)
        limit = group.limit() if group else None
        self._ram: int = min(filter(None, (psutil.virtual_memory().total, limit)))

    def used(self) -> int:
        """Return the bytes taken; of address space where its cap is nearer than the machine's memory."""
        return self.standing()[0]

    def total(self) -> int:
        """Return the machine's memory, or the group's or process's cap where one is nearer."""
        return self.standing()[1]

    def standing(self) -> tuple[int, int]:
        """Return `used` and `total` at one look; zeros when the process is gone."""
        resident, mapped, cap = self._read()
        near = cap > 0 and mapped / cap > resident / self._ram
        now, most = (mapped, cap) if near else (resident, self._ram if resident else 0)
        self._peak = max(self._peak, now)
        return now, most

    def free(self) -> int:
        """Return what could still be taken, which other processes' memory lessens."""
        resident, mapped, cap = self._read()
        left = min(self._ram - resident, psutil.virtual_memory().available)
        return max(0, int(min(left, cap - mapped) if cap else left))

    def peak(self) -> int:
        """Return the most that `used` saw."""
        return max(self._peak, self.used())

    def reset_peak(self) -> None:
        """Begin a new peak."""
        self._peak = 0

    def _read(self) -> tuple[int, int, int]:
        """Return resident bytes with children, address space of the process alone, and its cap (0: none)."""
        try:
            own = self._process.memory_info()
            cap = self._process.rlimit(resource.RLIMIT_AS)[0]
            children = self._process.children(recursive=True)
            resident = int(own.rss) + sum(map(_resident, children))
        except psutil.Error:
            return 0, 0, 0
        return resident, int(own.vms), int(cap) if 0 < cap < self._ram * 64 else 0


def _resident(process: psutil.Process) -> int:
    """Return what a worker takes for itself; pages it shares with its parent would count twice."""
    try:
        told = process.memory_info()
    except psutil.Error:
        return 0
    return int(told.rss - told.shared)
