"""Read a process's memory cgroup, version 1 or 2: its limit, what it takes, and whom the kernel killed.

    v1   memory/<path>/memory.limit_in_bytes · memory.usage_in_bytes · memory.oom_control (oom_kill N)
    v2   <path>/memory.max · memory.current · memory.events (oom_kill N)

The kernel counts a kill in the group of the process that died, whoever's limit was reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""v1 says "no limit" with a number near 2**63."""


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Read one memory cgroup; every answer is None where the kernel does not tell.

    `folder` holds the group's files, `version` is 1 or 2. A folder with the same files serves as a simulator.
    """

    folder: Path
    version: int

    @classmethod
    def of(cls, pid: int, *, root: Path = _ROOT, proc: Path = Path("/proc")) -> MemoryGroup | None:
        """Return the group a process is in, or None when it is gone or the system has no such groups."""
        try:
            lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return cls._at(root / "memory", path, 1)
        for line in lines:
            if line.startswith("0::"):
                return cls._at(root, line[3:], 2)
        return None

    @classmethod
    def _at(cls, mount: Path, path: str, version: int) -> MemoryGroup | None:
        name = "memory.oom_control" if version == 1 else "memory.events"
        # Inside a container the path is the host's, while the mount shows the container's group as its root.
        for folder in (mount / path.lstrip("/"), mount):
            if (folder / name).is_file():
                return cls(folder, version)
        return None

    def limit(self) -> int | None:
        """Return the smallest limit of this group and those above it, in bytes."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        found = []
        for folder in (self.folder, *self.folder.parents):
            if not (folder / name).is_file():
                break
            value = _number(folder / name)
            if value is not None and value < _NO_LIMIT:
                found.append(value)
        return min(found, default=None)

    def kills(self) -> int | None:
        """Return how many processes of this group the kernel has killed for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        try:
            lines = (self.folder / name).read_text().splitlines()
        except OSError:
            return None
        rows = dict(line.split() for line in lines if len(line.split()) == 2)
        return int(rows["oom_kill"]) if "oom_kill" in rows else None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max", or a file that went away with its group
        return None
