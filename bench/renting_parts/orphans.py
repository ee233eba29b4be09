"""Kill all of ours for good in the middle of a run, and see how long each kind of machine goes on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from flows.database import Database
from flows.gpus.base import EndingKind
from flows.gpus.leases import LeaseBook, Terms, rent
from flows.gpus.market.climate import Climate
from flows.gpus.market.provider import Clock, MarketCloud, MarketProvider, Weather
from flows.gpus.market.world import draw

KINDS: tuple[EndingKind, ...] = ("server-deadline", "exit-ends", "instance-key", "guest-power-off", "none")
HANGS = 0.05
"""Share of guests that never end themselves: chosen to show the difference, not measured anywhere."""
WATCHED = timedelta(hours=72)
"""How long the world goes on after the lease: a long weekend."""
_BEGAN = datetime(2026, 11, 20, 16, 0, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Orphans:
    """Hold the minutes that machines of one class outlived their lease with all of ours dead."""

    kind: EndingKind
    minutes: tuple[float, ...]

    @property
    def left_running(self) -> int:
        """Return how many still ran when we stopped looking."""
        return sum(one >= WATCHED.total_seconds() / 60.0 for one in self.minutes)

    @property
    def median(self) -> float:
        """Return the median."""
        return median(self.minutes)


def orphans_of(kind: EndingKind, seeds: range) -> Orphans:
    """Rent once for every seed, die, and let the world go on."""
    return Orphans(kind, tuple(_outlived(kind, seed) for seed in seeds))


def _outlived(kind: EndingKind, seed: int) -> float:
    rng = random.Random(seed)
    clock = Clock(_BEGAN)
    lasts = timedelta(minutes=rng.randint(30, 360))
    minutes = int((lasts + WATCHED).total_seconds() // 60) + 2
    cloud = MarketCloud(draw(Climate(0.0, 12.0), minutes, seed), clock, kind)
    provider = MarketProvider(cloud, Weather(guest_hangs=HANGS), rng)
    with TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'leases.db'}")
        book = LeaseBook(database, clock)
        terms = Terms("plates", "run-0123456789abcdef", provider.offers()[0], 0.0, _BEGAN + lasts, price=1.0)
        rent(book, provider, terms, Path("ticket"))
        database.close()  # here all of ours dies
    while any(one.runs for one in cloud.instances.values()) and clock() < _BEGAN + lasts + WATCHED:
        clock.pass_minutes(1)
        cloud.keep_time()
    (machine,) = cloud.instances.values()
    return max(((machine.ended or clock()) - (_BEGAN + lasts)).total_seconds() / 60.0, 0.0)


def table(rows: list[Orphans]) -> str:
    """Return the table."""
    runs = len(rows[0].minutes)
    lines = [
        f"With all of ours dead for good in the middle of a lease, {runs} runs a class; one guest in"
        f" {1 / HANGS:.0f} hangs and ends nothing. Such a machine costs until somebody looks: so every class"
        " but the first needs a live reaper, and the last needs two, on different hosts (or consent).",
        "",
        "| how a machine ends without us | median minutes past its lease | worst | still there after 72 h |",
        "|---|---|---|---|",
        *(_row(row) for row in rows),
    ]
    return "\n".join(lines)


def _row(row: Orphans) -> str:
    left = f"{row.left_running} of {len(row.minutes)}"
    return f"| {row.kind} | {row.median:.0f} | {max(row.minutes):.0f} | {left} |"
