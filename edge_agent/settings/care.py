"""Say when the agent counts as hung, and what watches it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_agent.settings.base import Section, Some


class CareConfig(Section):
    """Say when the agent counts as hung; an idle line or a dead camera never does."""

    engine_deadline_s: Some = 30.0
    """One engine call may take so long; beyond it systemd's watchdog is no longer fed."""
    loop_deadline_s: Some = 30.0
    """So long may the loop not turn outside of an engine call; it wakes every second, frame or none."""
    exit_when_hung: bool = False
    """Without systemd's watchdog: end with code 3 when the loop hangs, for a supervisor to start it again."""


class MetricsConfig(Section):
    """Say where Prometheus may read how the box fares."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 = no exporter."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 opens it to the network, without a password."""


class DoctorConfig(Section):
    """Say what `whetstone-agent doctor` cannot find out by itself."""

    store_url: Annotated[str, Field(pattern=r"^(https?://.*)?$")] = ""
    """Address of the object store; a box learns it from grants alone, "" = the last one it was granted."""
