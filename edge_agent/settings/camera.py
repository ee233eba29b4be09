"""Say where frames come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edge_agent.settings.base import Seconds, Section
from fleet_contracts.ids import PartId

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "bmp")


class CameraConfig(Section):
    """Say where frames come from and whether any may be skipped."""

    name: PartId = "cam0"
    source: Annotated[str, Field(min_length=1)]
    """`folder:/path`, `video:/path`, or any URL or pipeline OpenCV opens."""
    mode: Literal["every", "live"] = "every"
    follow: bool = True
    """Whether a folder is watched for new files or a lost stream opened again; else the daemon ends."""
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    fps_limit: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Frames per second at most, 0 = none."""
    idle_exit_s: Seconds = 0.0
    """End the daemon when a followed folder had nothing new for so long, 0 = never."""
