"""Say what is written into a tracking store, and what a store must do with it: the port and its values.

Everything is written by name, so that writing it twice has the effect of once: parameters stand as they were
first written, tags and files are replaced, and a point is its metric, step and value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

RunStatus = Literal["RUNNING", "FINISHED", "FAILED"]


@dataclass(frozen=True, slots=True)
class Point:
    """Hold one value of a metric; a step is an epoch, from 1, or 0 for what belongs to the run as a whole."""

    metric: str
    step: int
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold what is to be seen of a run, or a part of it: what is left out stays as it was.

    `files` are texts by name. `status` None changes nothing.
    """

    run_id: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    status: RunStatus | None = None
    ended_at: datetime | None = None


class Tracker(Protocol):
    """Write pictures of runs into one tracking store."""

    def write(self, picture: Picture) -> None:
        """Write what is new in a picture.

        Raises:
            TrackingAway: the store did not take it; a part may be written, and the same call completes it.
        """
        ...
