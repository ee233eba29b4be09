"""Say which frames are worth a person's time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from edge_agent.settings.base import Section, Share


class MiningConfig(Section):
    """Say which frames are worth a person's time."""

    low: Share = 0.15
    high: Share = 0.6
    """A detection with `low` <= confidence < `high` is uncertain."""
    nothing_seen: bool = True
    random_share: Share = 0.01
    max_per_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 600
    """Examples kept per hour at most, 0 = no limit; a capture command is not limited."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 180
    """How long the cloud may keep what this box sends."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not exceed high {self.high}")
        return self
