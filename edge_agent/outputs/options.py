"""Say how an output's worker serves it."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.outputs.failsafe import Mode, Patience
from edge_agent.outputs.rules import Routing, Timing

DEFAULT_PATIENCE = Patience(after_s=0.2, recover_s=1.0)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Say how one output is served; times in seconds."""

    name: str
    timing: Timing
    routing: Routing
    mode: Mode = "reject_all"
    patience: Patience = DEFAULT_PATIENCE
    heartbeat_s: float = 0.2
    reconnect_max_s: float = 5.0
    safe_at_stop: bool = True
    unseen_s: float = 0.0
    """How long after the inspection was in trouble parts still come that nobody inspected."""
