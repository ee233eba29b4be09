"""Decide what may be uploaded now: everything, only what is urgent, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from edge_agent.settings.upload import UploadConfig
from edge_agent.settings.windows import is_open, parse_windows


def local_now() -> datetime:
    """Return the box's local time, by its own time zone."""
    return datetime.now(timezone.utc).astimezone()


class Schedule:
    """Know the windows of the configuration.

    Args:
        config: windows and what is urgent.
        clock: the box's local time.
    """

    def __init__(self, config: UploadConfig, clock: Callable[[], datetime] = local_now) -> None:
        self._windows = parse_windows(config.windows)
        self._urgent_value = config.urgent_value
        self._clock = clock

    def least_value(self) -> float:
        """Return what an example must be worth to be uploaded now: 0 within a window; above 1 none is."""
        return 0.0 if is_open(self._windows, self._clock()) else self._urgent_value
