"""Say how a model is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edge_agent.settings.base import Section, Share


class InferenceConfig(Section):
    """Say how a model is run."""

    threads: Annotated[int, Field(ge=1, le=64)] = 1
    min_confidence: Share = 0.05
    iou: Share = 0.6
    overlap: Literal["auto", "on", "off"] = "auto"
    """Whether the next frame is prepared while the engine runs; `auto`: where there are more cores than
    `threads`."""
