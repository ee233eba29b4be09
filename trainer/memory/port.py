"""Be the port to a memory that a training can run out of: a card's, this machine's, or a simulated one."""

from __future__ import annotations

from typing import Literal, Protocol

Kind = Literal["device", "host"]
"""`device` is the memory of the card that trains; `host` the machine's own, where loaders and caches live."""


class DeviceMemory(Protocol):
    """Tell how a memory stands; bytes everywhere.

    Adapters: `HostMemory` (psutil and cgroups), `CudaMemory` in the backend, `SimulatedCard` beside it.
    """

    kind: Kind

    def used(self) -> int:
        """Return what this process takes now."""

    def free(self) -> int:
        """Return what this process could still take."""

    def total(self) -> int:
        """Return the most this process may take."""

    def peak(self) -> int:
        """Return the most it took since the start or the last reset."""

    def reset_peak(self) -> None:
        """Begin a new peak."""
