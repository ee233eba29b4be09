"""Hold what every check needs: the configuration, and whether an agent runs beside the doctor."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.config import AgentConfig


@dataclass(frozen=True, slots=True)
class Patient:
    """Hold the box that is looked at.

    Attributes:
        config: of its agent.
        is_running: an agent holds the lock of `data_dir` now, and with it the camera.
        test_outputs: outputs may be switched once each.
    """

    config: AgentConfig
    is_running: bool = False
    test_outputs: bool = False
