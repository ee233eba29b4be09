"""Say where signed releases come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from edge_agent.settings.base import Section, Some


class ReleasesConfig(Section):
    """Say where signed releases are read and which root the box trusts from the start."""

    url: Annotated[str, Field(pattern=r"^https?://.*/$")]
    """Ends with a slash; `metadata/` and `targets/` lie under it."""
    root_file: Path
    ca_file: Path | None = None
    """Who signs the release server's certificate; none = the system's authorities."""
    poll_s: Some = 300.0
    """How often to look without being told; an order wakes the updater at once."""
    rate_limit_kib_s: Annotated[int, Field(ge=0)] = 0
    """Limit on a model's download, 0 = none."""
    timeout_s: Some = 20.0
    self_test_s: Some = 180.0
    """Deadline of the self-test's child process."""
    confirm_frames: Annotated[int, Field(ge=0)] = 20
    """Frames a new model must inspect well before it is confirmed."""
    confirm_s: Some = 60.0
    """Time after which a new model without a failure is confirmed though fewer frames came."""
