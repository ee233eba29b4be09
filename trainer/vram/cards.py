"""Name common cards and say on which a run would fit; pure."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 2**20
RESERVE = 0.15
"""Share of a card that is left free while nobody confirmed the estimate on one."""


@dataclass(frozen=True, slots=True)
class Card:
    """Name a card and the memory that CUDA reports for it, in MiB."""

    name: str
    memory_mib: int

    def holds(self, peak_bytes: int, *, reserve: float = RESERVE) -> bool:
        """Say whether a peak fits with the reserve left free."""
        return peak_bytes <= self.memory_mib * _MIB * (1.0 - reserve)

    def share(self, peak_bytes: int) -> float:
        """Return the share of the card that a peak takes."""
        return peak_bytes / (self.memory_mib * _MIB)


CARDS = (
    Card("RTX 3060 12 GB", 12_044),
    Card("T4 16 GB", 14_913),
    Card("V100 16 GB", 16_151),
    Card("A10 / L4 24 GB", 22_512),
    Card("RTX 3090 / 4090 24 GB", 24_082),
    Card("RTX 5090 32 GB", 32_111),
    Card("V100 32 GB", 32_491),
    Card("A100 40 GB", 40_326),
    Card("L40S 48 GB", 45_457),
    Card("Jetson AGX Orin 64 GB (shared with the processor)", 62_800),
    Card("A100 80 GB", 81_038),
    Card("H100 80 GB", 81_079),
    Card("H200 141 GB", 143_156),
)
"""About what torch reports as a card's total; drivers differ by some hundred MiB."""
