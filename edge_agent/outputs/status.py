"""Say how an output fares, to whoever asks."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.outputs.failsafe import State


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """Say how an output fares; lateness in milliseconds over the last firings."""

    name: str
    state: State
    connected: bool
    under_way: int
    fired: int
    late_p50_ms: float
    late_p99_ms: float
