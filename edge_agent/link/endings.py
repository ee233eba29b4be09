"""Judge how connections end, so that two boxes with one client id do not kick each other for ever. Pure.

A broker ends an older connection when a client connects under the same id. Seen from the kicked one, a
connection that stood is closed by the broker soon after it began, again and again. Coming back at once would
kick the other in turn, so the box says what it sees and waits long, with jitter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QUICK_S = 10.0
"""A connection that stood for less ended quickly."""
TAKEN_OVER_AFTER = 3
"""So many quick ends in a row are no accident."""
LONG_WAITS = 5.0
"""The long wait is so many times the longest ordinary one."""
Ending = Literal["stable", "quick", "never-stood"]


@dataclass(slots=True)
class Endings:
    """Count quick ends in a row."""

    quick: int = 0

    def note(self, stood_s: float | None, *, closed_by_broker: bool) -> Ending:
        """Take in how a connection ended; `stood_s` is None if it never stood."""
        if stood_s is None:
            # The broker away or refusing is another matter, and does not end a row of kicks.
            return "never-stood"
        if stood_s >= QUICK_S or not closed_by_broker:
            self.quick = 0
            return "stable" if stood_s >= QUICK_S else "quick"
        self.quick += 1
        return "quick"

    def is_taken_over(self) -> bool:
        """Tell whether somebody else uses our client id."""
        return self.quick >= TAKEN_OVER_AFTER
