"""Say no before the disk is full, so that the box itself always has room to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import OutboxConfig
from edge_agent.errors import DiskFull
from edge_agent.outbox.usage import DataUsage

MEGABYTE = 1_000_000


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk a folder lies on."""
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True)
class Shortage:
    """Say how many bytes must go before an example fits, and whether other data than examples helps."""

    missing: int
    others_help: bool
    reason: DiskFull


@dataclass(frozen=True, slots=True)
class DiskGuard:
    """Hold the limits, in bytes: on the examples, on all data of the agent, and on what is left free."""

    quota: int
    free_floor: int
    probe: Callable[[Path], int] = free_bytes
    data_quota: int = 0
    """On everything in the data folder, 0 = none."""
    usage: DataUsage | None = None

    @classmethod
    def from_config(cls, config: OutboxConfig, data_dir: Path | None = None) -> DiskGuard:
        """Read the limits of the configuration; without `data_dir` only the examples are counted."""
        return cls(
            int(config.quota_mb * MEGABYTE),
            int(config.free_floor_mb * MEGABYTE),
            data_quota=int(config.data_quota_mb * MEGABYTE),
            usage=None if data_dir is None else DataUsage(data_dir),
        )

    def shortage(self, folder: Path, *, used: int, wanted: int) -> Shortage | None:
        """Tell what is missing to keep `wanted` more bytes beside the `used` ones; None when they fit."""
        found = [
            self._over_quota(folder, used, wanted),
            self._over_data_quota(folder, used, wanted),
            self._under_floor(folder, wanted),
        ]
        short = [one for one in found if one is not None]
        return max(short, key=lambda one: one.missing) if short else None

    def clear_others(self, wanted: int) -> int:
        """Delete old engine caches and set-aside files until `wanted` bytes are free; return them."""
        return 0 if self.usage is None else self.usage.clear(wanted)

    def _over_quota(self, folder: Path, used: int, wanted: int) -> Shortage | None:
        now = "Bring the uploads back, or raise outbox.quota_mb."
        words = (f"at most {self.quota} bytes waiting", f"{used} and {wanted} more", now)
        return _shortage(used + wanted - self.quota, folder, words, others_help=False)

    def _over_data_quota(self, folder: Path, used: int, wanted: int) -> Shortage | None:
        if self.usage is None or not self.data_quota:
            return None
        total = self.usage.beside_examples() + used
        limit = f"at most {self.data_quota} bytes in {self.usage.data_dir}"
        now = "Look into releases/, quarantine/ and logs there, or raise outbox.data_quota_mb."
        words = (limit, f"{total} and {wanted} more", now)
        return _shortage(total + wanted - self.data_quota, folder, words)

    def _under_floor(self, folder: Path, wanted: int) -> Shortage | None:
        free = self.probe(folder)
        now = "Free some disk space; the loop goes on without keeping."
        words = (f"{self.free_floor} bytes left free", f"{free} bytes free", now)
        return _shortage(self.free_floor - free + wanted, folder, words)


def _shortage(
    missing: int, folder: Path, words: tuple[str, str, str], *, others_help: bool = True
) -> Shortage | None:
    """Return what is missing, if anything is; `words` are what was expected, what was got, what now."""
    if missing <= 0:
        return None
    expected, got, now = words
    return Shortage(
        missing, others_help, DiskFull(expected=expected, got=got, where=str(folder), now=now)
    )
