"""Decide how much may be kept: per hour, per day, per class, and in bytes per day.

Frames and classes are counted here, over the hour and day that end now, and begin anew with the process.
Bytes are counted by the outbox's writer under the day's name, in the very transaction that stores the
example: so a box that is restarted again and again still keeps to its daily bytes, and no file is written
for it. What waits between loop and writer is not counted yet: `outbox.queue_frames` examples at most.

    >>> budget = Budget(BudgetLimits(per_hour=1), clock=lambda: 0.0)
    >>> budget.take(0.5, class_id=None), budget.take(0.5, class_id=None)
    ('', 'over-hour')
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal

from edge_agent.settings.mining import MiningConfig

HOUR_S, DAY_S = 3600.0, 86400.0
RECENT_SCORES = 101
DAY_BYTES = "kept_bytes."
"""Prefix of the counts of bytes kept by day (UTC), as the outbox stores them."""
Refusal = Literal["", "over-hour", "over-day", "over-class", "over-bytes", "reserved"]


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Hold what may be kept; 0 = no limit.

    Attributes:
        per_hour: frames.
        per_day: frames.
        per_class_hour: frames an hour whose strongest detection is of one class.
        bytes_per_day: of encoded images, by UTC day.
        reserve: share of the hour's frames that only frames at or above the median of recent scores may use.
    """

    per_hour: int = 0
    per_day: int = 0
    per_class_hour: int = 0
    bytes_per_day: int = 0
    reserve: float = 0.2


class Budget:
    """Grant or refuse frames; for the loop's thread alone.

    Args:
        limits: what may be kept.
        clock: seconds that only go forward.
        bytes_today: how many bytes were kept this day.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        clock: Callable[[], float] = time.monotonic,
        bytes_today: Callable[[], int] = lambda: 0,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._bytes_today = bytes_today
        self._hour: deque[float] = deque()
        self._day: deque[float] = deque()
        self._classes: dict[int, deque[float]] = {}
        self._scores: deque[float] = deque(maxlen=RECENT_SCORES)

    def take(self, score: float, class_id: int | None) -> Refusal:
        """Take one frame from the budget and return "", or say why there is no room for it.

        Args:
            score: of the strongest reason, 0 to 1.
            class_id: of the strongest detection, None when nothing was found.
        """
        now, limits = self._clock(), self._limits
        # The median of the frames before, so that a frame is not measured against itself.
        usual = median(self._scores) if self._scores else 0.0
        self._scores.append(score)
        if not self.has_bytes():
            return "over-bytes"
        if _is_full(self._day, limits.per_day, now, DAY_S):
            return "over-day"
        of_class = self._classes.setdefault(class_id, deque()) if class_id is not None else deque()
        if _is_full(of_class, limits.per_class_hour, now, HOUR_S):
            return "over-class"
        if _is_full(self._hour, limits.per_hour, now, HOUR_S):
            return "over-hour"
        if score < usual and len(self._hour) >= limits.per_hour - int(limits.per_hour * limits.reserve) > 0:
            return "reserved"
        for taken, limit in (
            (self._hour, limits.per_hour), (self._day, limits.per_day), (of_class, limits.per_class_hour)
        ):  # fmt: skip
            if limit:
                taken.append(now)
        return ""

    def has_bytes(self) -> bool:
        """Tell whether the day's bytes are not used up; the one limit that captures and flags keep to too."""
        return self._limits.bytes_per_day == 0 or self._bytes_today() < self._limits.bytes_per_day


def limits_of(config: MiningConfig) -> BudgetLimits:
    """Return the budget the configuration describes."""
    return BudgetLimits(
        per_hour=config.max_per_hour,
        per_day=config.max_per_day,
        per_class_hour=config.max_per_class_hour,
        bytes_per_day=int(config.max_mb_per_day * 1e6),
        reserve=config.reserve_share,
    )


def day_name(moment: datetime) -> str:
    """Return the name under which bytes of a moment's day are counted; the moment is in UTC."""
    return f"{DAY_BYTES}{moment:%Y-%m-%d}"


def bytes_of_day(limits: BudgetLimits, moment: datetime, size_bytes: int) -> dict[str, int]:
    """Return the count to store with an example; none when bytes are not limited, to spare the disk."""
    return {day_name(moment): size_bytes} if limits.bytes_per_day else {}


def _is_full(taken: deque[float], limit: int, now: float, span_s: float) -> bool:
    """Forget what lies longer than the span back; tell whether as many are left as the limit allows."""
    while taken and now - taken[0] >= span_s:
        taken.popleft()
    return 0 < limit <= len(taken)
