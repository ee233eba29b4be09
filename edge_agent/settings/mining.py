"""Say which frames are worth a person's time, and how many of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from typing_extensions import Self

from edge_agent.settings.base import Seconds, Section, Share

Frames = Annotated[int, Field(ge=0, le=1_000_000)]


class MiningConfig(Section):
    """Say which frames are worth a person's time; a rule without what it needs is silent."""

    low: Share = 0.15
    high: Share = 0.6
    """A detection with `low` <= confidence < `high` is uncertain; below `low` is nothing."""
    nothing_seen: bool = True
    random_share: Share = 0.01
    class_margin: Share = 0.1
    """A detection is unclear when its second-best class comes within this, 0 = off."""
    mixed_overlap: Share = 0.5
    """Boxes of different classes contradict when they overlap so much (IoU), 0 = off."""
    vanished: bool = True
    """Whether a frame is hard in which nothing is left of what earlier frames of its part showed."""
    flicker: Share = 0.5
    """Change of a class's confidence between two frames of a part that makes it hard, 0 = off."""
    novelty: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    """Distance from training that makes a frame hard, 0 = off; 1 = what 99 % of training stay below."""
    rare_share: Share = 0.02
    """A class with a smaller share of the recent detections is rare, 0 = off."""

    max_per_hour: Frames = 600
    """Examples kept per hour at most, 0 = no limit; captures and flagged parts are not limited."""
    max_per_day: Frames = 0
    """Likewise per day, 0 = no limit."""
    max_per_class_hour: Frames = 0
    """Likewise per hour for each class, told by the strongest detection, 0 = no limit."""
    max_mb_per_day: Annotated[float, Field(ge=0.0, le=1e6)] = 0.0
    """Megabytes (10^6 bytes) of images per UTC day, 0 = no limit; captures and flags keep to it too."""
    reserve_share: Share = 0.2
    """Share of the hour's examples kept back for frames at or above the median of recent scores."""

    near_duplicates: bool = False
    """Whether a frame is kept that looks and shows the same as one kept of late."""
    duplicate_s: Seconds = 3600.0
    """For how long a kept frame is compared with."""
    duplicate_features: Annotated[float, Field(ge=0.0, le=2.0)] = 0.02
    """Cosine distance of feature vectors up to which frames may look alike, for models that give vectors."""
    duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 10
    """Different bits of the 64-bit perceptual hash up to which they may, with vectors or without."""
    duplicate_grey: Annotated[int, Field(ge=0, le=255)] = 10
    """And the grey levels no cell of a 24 by 24 thumb may differ by; this one decides."""

    remember_frames: Annotated[int, Field(ge=0, le=64)] = 0
    """Frames kept in memory for captures that ask for what was before them; 6 MB each at 1080p."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 95
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 180
    """How long the cloud may keep what this box sends."""

    @model_validator(mode="after")
    def _band_is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} must not exceed high {self.high}")
        return self
