"""Read the times of the week at which uploads are allowed. Pure: no clock, no time zone.

    mon-fri 18:00-06:00     ends on the morning after; friday's ends on saturday
    sat,sun 00:00-24:00
    22:00-05:30             every day

>>> windows = parse_windows(("mon-fri 18:00-06:00",))
>>> is_open(windows, datetime(2026, 11, 21, 5, 59))  # a saturday
True
>>> is_open(windows, datetime(2026, 11, 21, 6, 0))
False
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_TIMES = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_SHAPE = 'days and times such as "mon-fri 18:00-06:00", "sat,sun 00:00-24:00" or "22:00-05:30"'


@dataclass(frozen=True, slots=True)
class UploadWindow:
    """Hold the days a window begins on (0 = monday) and its minutes of the day.

    An `end` at or before `begin` is on the next day.
    """

    days: frozenset[int]
    begin: int
    end: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Tell whether a minute of a day of the week lies in the window."""
        if self.begin < self.end:
            return weekday in self.days and self.begin <= minute < self.end
        today = weekday in self.days and minute >= self.begin
        return today or ((weekday - 1) % 7 in self.days and minute < self.end)


def parse_windows(texts: Iterable[str]) -> tuple[UploadWindow, ...]:
    """Read every window.

    Raises:
        ValueError: one cannot be read; the message quotes it and says how it should look.
    """
    return tuple(_parse(text) for text in texts)


def is_open(windows: tuple[UploadWindow, ...], local: datetime) -> bool:
    """Tell whether a moment of the box's local time lies in any window; with no windows it always does."""
    minute = local.hour * 60 + local.minute
    return not windows or any(window.holds(local.weekday(), minute) for window in windows)


def _parse(text: str) -> UploadWindow:
    words = text.strip().lower().split()
    if not 1 <= len(words) <= 2:
        raise ValueError(f"expected {_SHAPE}, got {text!r}")
    found = _TIMES.fullmatch(words[-1])
    if found is None:
        raise ValueError(f"expected times as HH:MM-HH:MM, got {words[-1]!r} in {text!r}")
    numbers = [int(one) for one in found.groups()]
    begin, end = _minute(numbers[0], numbers[1], text), _minute(numbers[2], numbers[3], text)
    if begin in (end, DAY_MINUTES):
        raise ValueError(f"a window must last: {text!r} (the whole day is 00:00-24:00)")
    days = _days(words[0], text) if len(words) == 2 else frozenset(range(7))
    return UploadWindow(days, begin, end)


def _minute(hour: int, minute: int, text: str) -> int:
    if minute > 59 or hour * 60 + minute > DAY_MINUTES:
        raise ValueError(f"no such time of day: {hour:02d}:{minute:02d} in {text!r}")
    return hour * 60 + minute


def _days(word: str, text: str) -> frozenset[int]:
    days: set[int] = set()
    for piece in word.split(","):
        first, _, last = piece.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"expected days out of {', '.join(DAYS)}, got {piece!r} in {text!r}")
        start, stop = DAYS.index(first), DAYS.index(last or first)
        # fri-mon goes over the week's end.
        days.update((start + step) % 7 for step in range((stop - start) % 7 + 1))
    return frozenset(days)
