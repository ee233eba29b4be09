"""Hold what was seen of a machine; None is what nobody could tell."""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CardSeen:
    """Describe one card as the driver does."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: Version | None = None


@dataclass(frozen=True, slots=True)
class DriverSeen:
    """Hold what the driver told; `error` is why it told nothing.

    `cuda` is the newest CUDA version it serves, `usable` how many cards CUDA itself can start.
    """

    error: str = ""
    version: str = ""
    cuda: Version | None = None
    cards: tuple[CardSeen, ...] = ()
    cuda_error: str = ""
    usable: int | None = None


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """Say which torch is installed and for which CUDA it was built; None for the processor alone."""

    version: str = ""
    cuda: Version | None = None


@dataclass(frozen=True, slots=True)
class LineSeen:
    """Hold what one short read from the bucket showed.

    `clock_ahead` is how many seconds this machine's clock is ahead of the store's.
    """

    bytes_per_second: float | None = None
    clock_ahead: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """Hold all of it; the line is None where it was not asked."""

    driver: DriverSeen | None
    torch: TorchBuild
    disk_free_bytes: int
    memory_bytes: int
    line: LineSeen | None = None


@dataclass(frozen=True, slots=True)
class Already:
    """Say what earlier starts left: bytes of objects in the cache and of staged images, here; and what share
    of the training is done, wherever that was.
    """

    cached: int = 0
    staged: int = 0
    done: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """Say what the plan counts on: cards of a kind, memory, disk, and data within a time.

    `promised_mib` is the card memory the plan was made with, `peak_bytes` what training will take of it (0
    when nobody knows), `memory_mib` the machine's own memory as offered, `data_seconds` what copying
    `data_bytes` may take. With `cards` 0 the plan is for the processor.
    """

    cards: int
    gpu: str
    promised_mib: int
    peak_bytes: int
    memory_mib: int
    disk_bytes: int
    data_bytes: int
    data_seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """Say one thing that is not as it should be; a grave one ends the run on this machine."""

    what: str
    why: str
    grave: bool = True
