"""Hold what one look at the machine saw, and be the port through which graphics cards are looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GpuReading:
    """Hold one card's state: `utilisation` from 0 to 1 (None where the card does not tell), bytes, watts.

    `needed_bytes` is what of the used memory cannot be given back, at its peak, where the training can tell:
    an allocator keeps freed memory, so a card that looks full may have room. `limit_bytes` is what may be
    needed at most: the card, or the process's share of it.
    """

    utilisation: float | None
    used_bytes: int
    total_bytes: int
    power_watts: float | None = None
    needed_bytes: int | None = None
    limit_bytes: int | None = None

    @property
    def full_share(self) -> float:
        """Return how near to its limit the memory is, from 0 to 1."""
        needed = self.used_bytes if self.needed_bytes is None else self.needed_bytes
        return needed / max(self.limit_bytes or self.total_bytes, 1)


@dataclass(frozen=True, slots=True)
class HostReading:
    """Hold the machine's state as this process may use it.

    `cpu_share` and `io_wait` are shares of the allowed cores' time since the reading before: spent by this
    process and its children, and idle because a disk had to answer. Disk bytes are those of the whole machine
    since the reading before.
    """

    cpu_share: float
    io_wait: float
    rss_bytes: int
    free_bytes: int
    total_bytes: int
    disk_read_bytes: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold one look: `at` is in seconds of a steady clock, `gpu` None on a machine without a card."""

    at: float
    host: HostReading
    gpu: GpuReading | None = None


class GpuReader(Protocol):
    """Be a way to look at the card a training uses."""

    def read(self) -> GpuReading | None:
        """Return the card's state, or None when it does not answer this time."""

    def close(self) -> None:
        """Give back what reading needs."""


class HostReader(Protocol):
    """Be a way to look at processor, memory and disk."""

    def read(self) -> HostReading:
        """Return the state since the reading before."""
