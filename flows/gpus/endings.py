"""Say whether a machine may be rented in view of how it would end with nobody of ours alive (law 8). Pure.

    own-process, server-deadline                needs nothing: the bill has an end that is not ours
    exit-ends, instance-key, guest-power-off    one live reaper: a guest that hangs ends nothing
    none                                        live reapers on two hosts

The user's consent to what a forgotten machine may cost stands in for either. What is free needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from flows.gpus.base import Ending, EndingKind

SEEN_FOR = timedelta(minutes=2)
"""How long a reaper counts as alive after a provider answered it; its rounds are ten seconds apart."""
CLOCKS_APART = timedelta(minutes=1)
"""How far a reaper's clock may be ahead of ours; the beat of one that is further ahead proves nothing."""
UNNOTICED = timedelta(hours=72)
"""How long a machine that nothing ends may run past its deadline until a person looks: a long weekend."""
_REAPERS: dict[EndingKind, int] = {"exit-ends": 1, "instance-key": 1, "guest-power-off": 1, "none": 2}


@dataclass(frozen=True, slots=True)
class Reaper:
    """Describe one reaper; `seen` says when each provider last answered it.

    Two of them are on two hosts when both name and boot differ: containers share their host's boot, and a
    host that was started again keeps its name.
    """

    host: str
    boot: str
    seen: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """Describe a launch that is about to be made; dollars an hour, None when nobody knows.

    `consent` is what a forgotten machine of this provider may cost by the user's word, 0 for no consent.
    """

    provider: str
    ending: Ending
    price: float | None
    deadline: datetime
    consent: float = 0.0


def why_not(launch: Launch, reapers: Iterable[Reaper], now: datetime) -> str:
    """Return why a launch must not be made, with every way out; "" when it may be."""
    needed = _REAPERS.get(launch.ending.kind, 0)
    if needed == 0 or launch.price == 0:
        return ""
    hosts = hosts_of(watching(reapers, launch.provider, now))
    if len(hosts) >= needed:
        return ""
    worst = worst_cost(launch, now)
    if worst is not None and 0.0 < worst <= launch.consent:
        return ""
    return f"{_why(launch, hosts)}; {_ways_out(launch, needed, worst)}"


def worst_cost(launch: Launch, now: datetime) -> float | None:
    """Return dollars a machine costs that nobody ends until a person finds it, None at an unknown price."""
    if launch.price is None:
        return None
    hours = (max(launch.deadline - now, timedelta(0)) + UNNOTICED).total_seconds() / 3600.0
    return launch.price * hours


def watching(reapers: Iterable[Reaper], provider: str, now: datetime) -> tuple[Reaper, ...]:
    """Return the reapers that a provider answered a moment ago."""
    return tuple(
        one
        for one in reapers
        if (at := one.seen.get(provider)) is not None and now - SEEN_FOR <= at <= now + CLOCKS_APART
    )


def hosts_of(reapers: Iterable[Reaper]) -> tuple[str, ...]:
    """Return names of hosts that surely are different ones."""
    kept: list[Reaper] = []
    for one in sorted(reapers, key=lambda reaper: (reaper.host, reaper.boot)):
        if all(one.host != other.host and one.boot != other.boot for other in kept):
            kept.append(one)
    return tuple(one.host for one in kept)


def _why(launch: Launch, hosts: tuple[str, ...]) -> str:
    ends = "nothing" if launch.ending.kind == "none" else f"only itself ({launch.ending.kind})"
    watched = f"a live reaper on {hosts[0]} alone" if hosts else "no live reaper"
    return f"without us {ends} ends a machine of {launch.provider}, which has {watched}"


def _ways_out(launch: Launch, needed: int, worst: float | None) -> str:
    reaper = "a reaper" if needed == 1 else "reapers on two hosts"
    run = f"run {reaper} ('whetstone up', or 'python -m flows.gpus reap --folder F')"
    if worst is None:
        return f"{run}; its price is unknown, so no cost can be consented to"
    until = f"until {UNNOTICED.total_seconds() / 3600:.0f} h past {launch.deadline:%Y-%m-%d %H:%M} UTC"
    # Rounded up to whole dollars: what is copied into the settings has to be enough.
    named = f"worst_cost = {int(worst) + 1}"
    return f"{run}, or consent to ${worst:.2f} {until}: {named} under [providers.{launch.provider}]"
