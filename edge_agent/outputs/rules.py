"""Decide what an output does when: pure, no clock and no device. Times are seconds of `time.monotonic()`.

A part is due `travel_s` after its picture was taken, when it has come from the camera to the output. A
decision that comes later than that fires at once as long as `late_ok_s` allows; after that it would hit
another part, so it is missed, which is told.

    >>> plan = Plan(Timing(travel_s=0.5, pulse_s=0.1, late_ok_s=0.02), Routing())
    >>> plan.next_mono()
    inf
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from edge_agent.outputs.base import VERDICT_CODES, Lane, Shot, Write
from fleet_contracts.samples import Verdict

PARTS_MODULUS = 65536
"""The part counter is one 16-bit register; it goes on at 0."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Say when an output fires, in seconds; at most `limit` parts are under way between camera and output."""

    travel_s: float = 0.0
    pulse_s: float = 0.1
    late_ok_s: float = 0.02
    limit: int = 256


@dataclass(frozen=True, slots=True)
class Routing:
    """Say which lanes an output pulses, and where parts go that nobody is sure about."""

    on: Collection[Lane] = frozenset[Lane](("reject",))
    unsure: Literal["reject", "accept", "separate"] = "reject"

    def lane_of(self, verdict: Verdict) -> Lane:
        """Return the lane of a part."""
        if verdict != "unsure" or self.unsure == "separate":
            return verdict
        return self.unsure

    def pulses(self, shot: Shot) -> bool:
        """Tell whether a part's lane is pulsed."""
        return self.lane_of(shot.verdict) in self.on

    def writes(self, shot: Shot) -> tuple[Write, ...]:
        """Return what is written for a part that is due: data first, the pulse that says "read it" last."""
        lane = self.lane_of(shot.verdict)
        data = (
            Write("parts", shot.number % PARTS_MODULUS, shot),
            Write("verdict", VERDICT_CODES[shot.verdict], shot),
        )
        return (*data, Write(lane, 1, shot)) if lane in self.on else data


@dataclass(frozen=True, slots=True)
class Fire:
    """Perform these writes now for this part; `lane` is pulsed, if any."""

    shot: Shot
    writes: tuple[Write, ...]
    lane: Lane | None


@dataclass(frozen=True, slots=True)
class Miss:
    """Leave a part alone: it came too late, or the fail-safe state stands in for its verdict."""

    shot: Shot
    why: Literal["late", "held"]
    late_s: float


@dataclass(frozen=True, slots=True)
class Drop:
    """End the pulse of a lane."""

    lane: Lane


Step: TypeAlias = "Fire | Miss | Drop"


class Plan:
    """Hold what is under way to one output, ordered by when it is due."""

    def __init__(self, timing: Timing, routing: Routing) -> None:
        self._timing = timing
        self._routing = routing
        self._due: list[tuple[float, int, Shot | Lane]] = []
        self._order = 0
        self._ends: dict[Lane, float] = {}
        self._under_way = 0
        self._held = False

    def add(self, shot: Shot) -> bool:
        """Take in a decided part; False when too many are under way already."""
        if self._under_way >= self._timing.limit:
            return False
        self._under_way += 1
        self._push(shot.due_mono, shot)
        return True

    def next_mono(self) -> float:
        """Return when something is due next, or infinity."""
        return self._due[0][0] if self._due else math.inf

    def pop(self, now: float) -> Step | None:
        """Return the next step that is due at `now`, or None; what it says is to be done at once."""
        while self._due and self._due[0][0] <= now:
            due, _, what = heapq.heappop(self._due)
            if isinstance(what, Shot):
                self._under_way -= 1
                return self._judge(what, now)
            if self._ends.get(what) == due:
                del self._ends[what]
                return Drop(what)
        return None

    def pulsed(self, lane: Lane, now: float) -> bool:
        """Let a pulse end `pulse_s` after `now`; True when it prolongs one that had not ended yet."""
        merged = lane in self._ends
        end = now + self._timing.pulse_s
        self._ends[lane] = end
        self._push(end, lane)
        return merged

    def hold(self, *, held: bool) -> None:
        """Stand aside while the fail-safe state holds the lanes: pulses that run are forgotten."""
        self._held = held
        self._ends.clear()

    def under_way(self) -> int:
        """Return how many parts are under way."""
        return self._under_way

    def _judge(self, shot: Shot, now: float) -> Fire | Miss:
        late_s = now - shot.due_mono
        if self._held:
            return Miss(shot, "held", late_s)
        if late_s > self._timing.late_ok_s:
            return Miss(shot, "late", late_s)
        lane = self._routing.lane_of(shot.verdict)
        return Fire(shot, self._routing.writes(shot), lane if lane in self._routing.on else None)

    def _push(self, due: float, what: Shot | Lane) -> None:
        self._order += 1
        heapq.heappush(self._due, (due, self._order, what))
