"""Bound what waits on the box for its upload, and what all of the agent's data may take of the disk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_agent.settings.base import Section, Some


class OutboxConfig(Section):
    """Bound what waits on the box for its upload, and what all of the agent's data may take of the disk."""

    quota_mb: Annotated[float, Field(gt=0.0)] = 2048.0
    """Limit on the examples that wait; the least valuable goes for a more valuable one."""
    data_quota_mb: Annotated[float, Field(ge=0.0)] = 8192.0
    """Limit on all of `data_dir` together: examples, releases, engine caches, quarantine, logs; 0 = none."""
    free_floor_mb: Annotated[float, Field(ge=0.0)] = 512.0
    """Nothing is kept while the disk has less than this free."""
    retry_s: Some = 5.0
    """First wait before something unanswered is asked again; doubles with jitter up to sixteen times."""
    queue_frames: Annotated[int, Field(ge=1, le=1000)] = 32
    """Frames between loop and writer; at 1080p one takes 6 MB of memory."""
