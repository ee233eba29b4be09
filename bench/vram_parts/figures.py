"""Turn predictions and measurements into errors, and errors into what the targets ask for; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

TARGETS = {"vram.median_err": 0.04, "vram.worst_err": 0.10, "vram.worst_under": 0.02, "vram.seconds": 20.0}


@dataclass(frozen=True, slots=True)
class Scored:
    """Hold the errors of several predictions as shares of what was measured."""

    count: int
    median_error: float
    worst_error: float
    worst_under: float


def scored(pairs: Sequence[tuple[float, float]]) -> Scored:
    """Score (predicted, measured) pairs; `worst_under` is how far a prediction fell short at most."""
    shares = [predicted / measured - 1.0 for predicted, measured in pairs]
    return Scored(
        len(shares), median(abs(share) for share in shares), max(abs(share) for share in shares),
        max(0.0, -min(shares)),
    )  # fmt: skip


def met(found: Scored) -> dict[str, bool]:
    """Say which targets a score meets."""
    return {
        "vram.median_err": found.median_error <= TARGETS["vram.median_err"],
        "vram.worst_err": found.worst_error <= TARGETS["vram.worst_err"],
        "vram.worst_under": found.worst_under <= TARGETS["vram.worst_under"],
    }
