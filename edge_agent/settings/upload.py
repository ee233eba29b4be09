"""Say how fast and when examples are uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from edge_agent.settings.base import Section
from edge_agent.settings.windows import parse_windows


class UploadConfig(Section):
    """Say how fast and when examples are uploaded; by default at once and as fast as the line allows."""

    rate_limit_kib_s: Annotated[int, Field(ge=0)] = 0
    """Limit on all uploads together, 0 = none."""
    ca_file: Path | None = None
    """Who signs the object store's certificate; none = the system's authorities."""
    windows: tuple[str, ...] = ()
    """Local times at which uploads are allowed, such as "mon-fri 18:00-06:00"; none = always."""
    urgent_value: Annotated[float, Field(ge=0.0, le=2.0)] = 1.0
    """Examples worth at least this are uploaded outside the windows too (captures and flags are worth 1);
    above 1 nothing is."""

    @field_validator("windows")
    @classmethod
    def _can_be_read(cls, windows: tuple[str, ...]) -> tuple[str, ...]:
        parse_windows(windows)
        return windows
