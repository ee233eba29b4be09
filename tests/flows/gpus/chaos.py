"""Play one run on the simulated cloud while everything of ours is killed and every call may fail.

Time is simulated; leases, tenancy and reaper are the real ones on a real database. A flow process and a reaper
process live, die anywhere (before or after any call to the cloud or write to the database) and come back later.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from flows.database import Database
from flows.errors import FlowsError
from flows.gpus.base import EndingKind
from flows.gpus.leases import LeaseBook
from flows.gpus.market.climate import Climate, Work
from flows.gpus.market.provider import Clock, Instance, MarketCloud, MarketProvider, Weather
from flows.gpus.market.world import draw
from flows.gpus.outlook import Need, Progress
from flows.gpus.reaper import reap
from flows.gpus.tenancy import Tenant

BEGAN = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)
STORM = Weather(
    0.03, 0.03, loses_launches=0.3, refuses=0.1, list_lags=3.0, runs_on=1.0, ignores_ends=0.2, guest_hangs=0.3
)
KINDS: tuple[EndingKind, ...] = ("none", "none", "server-deadline", "exit-ends", "guest-power-off")
GRACE_MINUTES = 5
"""Minutes of a living reaper that an instance may outlive its lease."""
LONGEST_AFTER = 90
"""Minutes the world goes on after the run, for what was left running."""


class Killed(BaseException):
    """Be a SIGKILL: no handler catches it."""


@dataclass
class Fate:
    """Decide who dies when: `deadly` is the chance of each step between two effects."""

    rng: random.Random
    deadly: float
    kills: int = 0
    armed: bool = False

    def step(self, _what: str = "") -> None:
        """Die here, perhaps."""
        if self.armed and self.rng.random() < self.deadly:
            self.kills += 1
            raise Killed


class MortalBook(LeaseBook):
    """Be the real lease book in a process that may die before and after each write."""

    def __init__(self, database: Database, now: Clock, fate: Fate) -> None:
        super().__init__(database, now)
        self._fate = fate

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"record", "note_asked", "note_launched", "end"}:
            return found
        fate = super().__getattribute__("_fate")

        def mortal(*args: Any, **kwargs: Any) -> Any:
            fate.step(f"before {name}")
            done = found(*args, **kwargs)
            fate.step(f"after {name}")
            return done

        return mortal


@dataclass
class Trainer:
    """Be the trainer's work: done on whichever machine runs, saved by epochs in the bucket."""

    work: Work
    saved: int = 0
    done: dict[str, int] = field(default_factory=dict)
    delivered: bool = False

    def work_a_minute(self, instance: Instance, clock: Clock) -> None:
        """Work on a machine that is up."""
        age = (clock() - instance.began).total_seconds() / 60.0
        if age <= self.work.cold_start or self.delivered:
            return
        done = self.done.get(instance.machine, self.saved) + 1
        self.done[instance.machine] = done
        if done % self.work.epoch == 0 or done >= self.work.minutes:
            self.saved = max(self.saved, done)
        self.delivered = self.saved >= self.work.minutes


@dataclass(frozen=True, slots=True)
class Result:
    """Hold how a run went: minutes, dollars, and what fired."""

    outcome: str
    overlived: int
    doubled: int
    cost: float
    kills: int
    failures: int
    lost_launches: int
    preemptions: int
    launches: int
    left_running: int
    dead_overlived: int
    """Minutes machines outlived their lease while no reaper was alive."""


class Chaos:
    """Play one seed."""

    def __init__(self, folder: Path, template: Path, seed: int, weather: Weather = STORM) -> None:
        self.rng = random.Random(seed)
        self.clock = Clock(BEGAN)
        self.work = Work(minutes=60, cold_start=4, epoch=3, slack=self.rng.choice((1.3, 1.6, 2.5)))
        climate = Climate(self.rng.choice((0.0, 0.5, 0.7)), self.rng.choice((0.5, 2.0, 8.0)))
        self.deadline = BEGAN + timedelta(minutes=self.work.deadline)
        # How machines end without us differs from run to run, and must not matter while a reaper comes back.
        self.cloud = MarketCloud(draw(climate, 60 * 12, seed), self.clock, KINDS[seed % len(KINDS)])
        self.fate = Fate(self.rng, deadly=self.rng.choice((0.0, 0.01, 0.05)))
        self.provider = MarketProvider(self.cloud, weather, self.rng, self.fate.step)
        folder.mkdir(parents=True)
        shutil.copy(template, folder / "leases.db")
        self.database = Database.open(f"sqlite:///{folder / 'leases.db'}", migrate=False)
        self.book = MortalBook(self.database, self.clock, self.fate)
        self.trainer = Trainer(self.work)
        self.tenant: Tenant | None = None
        self.outcome = ""
        self.back_at = {"flow": 0, "reaper": 0}
        self.over: dict[str, int] = {}
        self.over_unwatched = 0
        self.doubled = 0
        self.preemptions = 0

    def play(self) -> Result:
        """Play until the run has an outcome, and on until nothing of it runs."""
        try:
            while not self.outcome and self.clock.minute < 60 * 8:
                self._minute()
            after = self.clock.minute + LONGEST_AFTER
            while self.clock.minute < after and any(one.runs for one in self.cloud.instances.values()):
                self._minute()
        finally:
            self.database.close()
        return Result(
            self.outcome, max(self.over.values(), default=0), self.doubled, self.cloud.bill(), self.fate.kills,
            self.provider.failures, self.provider.lost_launches, self.preemptions, len(self.cloud.instances),
            sum(one.runs for one in self.cloud.instances.values()), self.over_unwatched,
        )  # fmt: skip

    def _minute(self) -> None:
        self.preemptions += len(self.cloud.take_away())
        self.cloud.keep_time()
        for instance in self._running():
            self.trainer.work_a_minute(instance, self.clock)
            if self.trainer.delivered:
                self.cloud.end(instance, "its work was done")
        reaper_lives = self._alive("reaper", lambda: reap(self.book, [self.provider]))
        if not self.outcome:
            self._alive("flow", self._follow)
        self._judge(reaper_lives=reaper_lives)
        self.clock.pass_minutes(1)

    def _alive(self, who: str, work: Callable[[], object]) -> bool:
        """Let a process work for this minute if it lives; return whether it did."""
        if self.clock.minute < self.back_at[who]:
            return False
        with self._mortal(who):
            work()
        return True

    @contextmanager
    def _mortal(self, who: str) -> Iterator[None]:
        self.fate.armed = True
        try:
            yield
        except Killed:
            self.back_at[who] = self.clock.minute + self.rng.choice((1, 2, 5, 30))
            if who == "flow":
                self.tenant = None
        except FlowsError:
            pass  # the same step is done again in a minute, as the flow does
        finally:
            self.fate.armed = False

    def _follow(self) -> None:
        """Do what the flow that follows a run does."""
        tenant = self.tenant or Tenant(
            self.book, {self.provider.name: self.provider}, self._need(), lambda: Path("t")
        )
        self.tenant = tenant
        if self.trainer.delivered:
            tenant.end("the run delivered its result")
            self.outcome = "a model"
        elif self.clock() >= self.deadline:
            tenant.end("the deadline passed")
            self.outcome = "the deadline passed"
        else:
            here = tenant.lease()
            done = self.trainer.done.get(here.machine, 0) if here else 0
            tenant.step(Progress(self.trainer.saved / self.work.minutes, done / self.work.minutes))

    def _need(self) -> Need:
        return Need(
            task_id="plates", run_id="run-0123456789abcdef", deadline=self.deadline, has_deadline=True,
            price_cap=0.0, work_minutes=self.work.minutes, cold_start=self.work.cold_start, epoch=self.work.epoch,
            fits=lambda _: True,
        )  # fmt: skip

    def _running(self) -> list[Instance]:
        now = self.clock()
        return [
            one
            for one in self.cloud.instances.values()
            if one.runs or (one.ended is not None and one.ended > now)
        ]

    def _judge(self, *, reaper_lives: bool) -> None:
        """Count what must not be: two machines at work, and machines whose lease is over."""
        running = [one for one in self._running() if one.runs]
        self.doubled += max(len(running) - 1, 0)
        for instance in running:
            lease = self.book.find(instance.lease_id)
            is_over = lease is None or lease.state == "ended" or lease.deadline <= self.clock()
            if is_over and reaper_lives:
                self.over[instance.machine] = self.over.get(instance.machine, 0) + 1
            elif is_over:
                self.over_unwatched += 1
