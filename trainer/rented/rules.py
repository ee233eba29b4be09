"""Decide what the guard does next; pure. All times are seconds of a clock nobody can set.

    run --(trainer ended)-----------------------------------------> end
    run --(lease over, asked to end, store's clock never heard)--> warn --(grace over)--> kill

A warning lets the trainer send what waits; a kill takes everything that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GRACE_SECONDS = 35.0
"""From the warning to the kill: the trainer's child ends, and what waits is sent for up to half a minute.
With the farewell all is over within a minute of the lease, when an adapter's own limit may strike."""
UNKNOWN_SECONDS = 1_200.0
"""How long a machine may run whose time left is unknown, since the store never answered it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Hold what the guard sees: times since its beginning, the lease's time left, and who asked for an end.

    `left` is None as long as the store's clock was not heard, `warned_for` as long as nobody was warned.
    """

    since_began: float
    left: float | None
    ended: bool
    asked: bool
    warned_for: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what to do and why."""

    move: Literal["wait", "warn", "kill", "end"]
    why: str = ""


def decide(seen: Standing, *, grace: float = GRACE_SECONDS, unknown: float = UNKNOWN_SECONDS) -> Verdict:
    """Return what to do now."""
    if seen.ended:
        return Verdict("end", "the trainer has ended")
    if seen.warned_for is not None:
        over = seen.warned_for >= grace
        return Verdict("kill", f"no end within {grace:.0f} s of the warning") if over else Verdict("wait")
    if seen.left is not None and seen.left <= 0.0:
        return Verdict("warn", "the lease is over")
    if seen.asked:
        return Verdict("warn", "this machine was asked to end")
    if seen.left is None and seen.since_began >= unknown:
        return Verdict("warn", f"the store did not answer within {unknown:.0f} s")
    return Verdict("wait")
