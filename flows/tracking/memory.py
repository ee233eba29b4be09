"""Keep pictures in memory: the twin of a tracking store, for tests and dry runs."""

from __future__ import annotations

from flows.tracking.base import Picture, Point, RunStatus
from flows.tracking.errors import TrackingAway


class MemoryTracker:
    """Be a tracking store in memory.

    Attributes:
        away: while true, every call raises `TrackingAway`.
        calls: how often it was asked, refused calls included.
    """

    def __init__(self) -> None:
        self.away = False
        self.calls = 0
        self.params: dict[str, dict[str, str]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.points: dict[str, dict[tuple[str, int, float], Point]] = {}
        self.files: dict[str, dict[str, str]] = {}
        self.status: dict[str, RunStatus] = {}

    def write(self, picture: Picture) -> None:
        """Take a picture in, as the port says."""
        self.calls += 1
        if self.away:
            raise TrackingAway(expected="an answer", got="none: the store is away", where="memory")
        run = picture.run_id
        kept = self.params.setdefault(run, {})
        kept.update({name: value for name, value in picture.params.items() if name not in kept})
        self.tags.setdefault(run, {}).update(picture.tags)
        points = self.points.setdefault(run, {})
        for point in picture.points:
            points.setdefault((point.metric, point.step, point.value), point)
        self.files.setdefault(run, {}).update(picture.files)
        if picture.status is not None:
            self.status[run] = picture.status
