"""Say no before the disk is full, so that the box itself always has room to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import OutboxConfig
from edge_agent.errors import DiskFull

MEGABYTE = 1_000_000


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk a folder lies on."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class DiskGuard:
    """Hold the outbox's limits, in bytes."""

    quota: int
    free_floor: int
    probe: Callable[[Path], int] = free_bytes

    @classmethod
    def from_config(cls, config: OutboxConfig) -> DiskGuard:
        """Read the limits of the configuration."""
        return cls(int(config.quota_mb * MEGABYTE), int(config.free_floor_mb * MEGABYTE))

    def require_room(self, folder: Path, *, used: int, wanted: int) -> None:
        """Check that `wanted` more bytes may be kept beside the `used` ones.

        Raises:
            DiskFull: over the quota, or the disk would have less free than the floor.
        """
        if used + wanted > self.quota:
            raise DiskFull(
                expected=f"at most {self.quota} bytes waiting",
                got=f"{used} and {wanted} more",
                where=str(folder),
                now="Bring the uploads back, or raise outbox.quota_mb.",
            )
        free = self.probe(folder)
        if free - wanted < self.free_floor:
            raise DiskFull(
                expected=f"{self.free_floor} bytes left free",
                got=f"{free} bytes free",
                where=str(folder),
                now="Free some disk space; the loop goes on without keeping.",
            )
