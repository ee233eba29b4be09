"""Read and cap a CUDA card's memory. Not confirmed on a GPU."""

from __future__ import annotations

import torch

from trainer.memory.port import Kind


class CudaMemory:
    """Be the `DeviceMemory` of the current CUDA card.

    Args:
        share: of the card's memory that this process may take; it caps torch's own allocator, which the
            context and the libraries come on top of.
    """

    kind: Kind = "device"

    def __init__(self, share: float = 1.0) -> None:
        self._share = share

    def cap(self) -> None:
        """Let torch raise its out-of-memory error at the share already."""
        if self._share < 1.0:
            torch.cuda.set_per_process_memory_fraction(self._share)

    def used(self) -> int:
        """Return what torch's allocator has taken of the card."""
        return int(torch.cuda.memory_reserved())

    def free(self) -> int:
        """Return what it could still take: of the card, or up to its share."""
        card, _ = torch.cuda.mem_get_info()
        return max(0, min(int(card), self.total() - self.used()))

    def total(self) -> int:
        """Return the most it may take: what it has and what nobody else has, or its share of the card."""
        card, whole = torch.cuda.mem_get_info()
        reachable = self.used() + int(card)
        return min(reachable, int(whole * self._share)) if self._share < 1.0 else reachable

    def peak(self) -> int:
        """Return the most it had."""
        return int(torch.cuda.memory_stats().get("reserved_bytes.all.peak", 0))

    def reset_peak(self) -> None:
        """Begin a new peak."""
        torch.cuda.reset_peak_memory_stats()
