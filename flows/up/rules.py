"""Decide what to do with one service: pure, on what was seen of it and the time.

    waiting --(all it needs are ready)--> starting --(probe holds)--> ready
       ^                                     |                          |
       '------ back-off, then again ---------+------ exited, deaf ------'

A service that has to run once is `done` after it ended well, which counts as ready.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["waiting", "starting", "ready", "done", "resting"]
Step = Literal["none", "start", "probe", "kill"]

FIRST_REST = 0.5  # seconds
LONGEST_REST = 30.0
STEADY_SECONDS = 60.0
"""A service that was ready this long begins its back-off anew."""
DEAF_PROBES = 6
"""Unanswered probes in a row after which a running service is killed and started again."""
PROBE_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Watch:
    """Hold what the supervisor knows of one service; times are seconds of a monotonic clock."""

    state: State = "waiting"
    since: float = 0.0
    failures: int = 0
    restarts: int = 0
    deaf: int = 0
    rest_until: float = 0.0
    next_probe: float = 0.0


def is_up(watch: Watch) -> bool:
    """Tell whether services that need this one may start."""
    return watch.state in ("ready", "done")


def next_step(watch: Watch, now: float, *, needs_met: bool, start_seconds: float) -> Step:
    """Return what to do with a service that is not known to have ended."""
    if watch.state == "waiting":
        return "start" if needs_met else "none"
    if watch.state == "resting":
        return "start" if now >= watch.rest_until and needs_met else "none"
    if watch.state == "starting":
        return "kill" if now - watch.since > start_seconds else "probe"
    if watch.state == "ready" and watch.deaf >= DEAF_PROBES:
        return "kill"
    return "probe" if watch.state == "ready" and now >= watch.next_probe else "none"


def started(watch: Watch, now: float) -> Watch:
    """Return the watch after the service's process was started."""
    again = 0 if watch.state == "waiting" else 1
    return replace(watch, state="starting", since=now, deaf=0, restarts=watch.restarts + again)


def probed(watch: Watch, now: float, *, holds: bool) -> Watch:
    """Return the watch after a probe."""
    if watch.state == "starting":
        return replace(watch, state="ready", since=now, next_probe=now + PROBE_EVERY) if holds else watch
    return replace(watch, deaf=0 if holds else watch.deaf + 1, next_probe=now + PROBE_EVERY)


def ended(watch: Watch, now: float, *, well: bool, once: bool, jitter: float) -> Watch:
    """Return the watch after the service's process ended; `jitter` is a share of the rest, 0 to 1."""
    if once and well:
        return replace(watch, state="done", since=now)
    steady = watch.state == "ready" and now - watch.since >= STEADY_SECONDS
    failures = 1 if steady else watch.failures + 1
    rest = rest_seconds(failures, jitter)
    return replace(watch, state="resting", since=now, failures=failures, deaf=0, rest_until=now + rest)


def rest_seconds(failures: int, jitter: float) -> float:
    """Return how long to rest after so many failures in a row: doubling, capped, up to half of it random."""
    longest = min(LONGEST_REST, FIRST_REST * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + 0.5 * jitter)
