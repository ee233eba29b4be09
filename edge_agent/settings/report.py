"""Say how often the box tells how it fares."""

from __future__ import annotations

from edge_agent.settings.base import Section, Some


class ReportConfig(Section):
    """Say how often the box tells how it fares."""

    every_s: Some = 10.0
