"""Decide whether a frame is kept: reasons, commands and flags, near duplicates, and the budget.

    (1) ask every rule, with what is remembered of the frames before
    (2) a frame that a command or a flag asks for is kept, as long as the day has bytes left
    (3) without a reason a frame goes
    (4) a frame that says nothing new goes
    (5) a frame the budget has no room for goes

Everything is counted by what became of it. For the loop's thread alone, but `campaigns` and `recent`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from edge_agent.config import MiningConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.mining.budget import Budget, BudgetLimits, day_name, limits_of
from edge_agent.mining.campaigns import Campaigns
from edge_agent.mining.doubt import ClassMargin, MixedOverlap
from edge_agent.mining.history import Memory
from edge_agent.mining.looks import LookLimits, RecentLooks, look_of
from edge_agent.mining.over_time import Flicker, Vanished
from edge_agent.mining.rarity import FLAG, Flagged, Novelty, RareClass
from edge_agent.mining.recent import RecentFrames
from edge_agent.mining.rules import NothingSeen, RandomFloor, UncertainScore
from edge_agent.mining.seen import MiningRule, SeenFrame
from fleet_contracts.base import utc_now
from fleet_contracts.samples import Reason

OUTCOMES = {
    "kept": "kept by a rule",
    "asked": "kept for a command or a flag",
    "duplicate": "let go as near duplicates of kept ones",
    "over-hour": "let go over the hour's limit",
    "over-day": "let go over the day's limit",
    "over-class": "let go over their class's limit",
    "over-bytes": "let go over the day's bytes",
    "reserved": "let go for more valuable ones, near the hour's limit",
}


@dataclass(frozen=True, slots=True)
class MinerParts:
    """Hold what a miner is made of; the defaults limit nothing and remember no looks."""

    budget: Budget = field(default_factory=lambda: Budget(BudgetLimits()))
    looks: RecentLooks | None = None
    """What near duplicates are told by, None = they are kept."""
    memory: Memory = field(default_factory=lambda: Memory(low=0.15))
    campaigns: Campaigns = field(default_factory=Campaigns)
    recent: RecentFrames = field(default_factory=lambda: RecentFrames(0))
    events: Events = field(default_factory=Events)


class Miner:
    """Ask every rule about a frame; the strongest kind of reason comes first.

    Args:
        rules: asked in order; the first reason names the example in the counts.
        parts: budget, memories and commands.

    Attributes:
        outcomes: frames with a reason by what became of them (`OUTCOMES`), since the process began.
        campaigns: the capture commands that run.
        recent: the last frames, for commands that ask for what was before them.
    """

    def __init__(self, rules: Sequence[MiningRule], parts: MinerParts | None = None) -> None:
        parts = parts or MinerParts()
        self.outcomes: Counter[str] = Counter()
        self.campaigns = parts.campaigns
        self.recent = parts.recent
        self._rules = tuple(rules)
        self._budget = parts.budget
        self._looks = parts.looks
        self._memory = parts.memory
        self._events = parts.events
        self._wants_novelty = any(isinstance(rule, Novelty) for rule in rules)

    def reasons_to_keep(self, seen: SeenFrame) -> tuple[Reason, ...]:
        """Return why this frame is kept; empty when it is not."""
        # (1)
        seen = replace(seen, past=self._memory.past_of(seen))
        found = tuple(reason for rule in self._rules if (reason := rule.check(seen)) is not None)
        self._memory.add(seen)
        self._tell_of_novelty(seen)
        # (2)
        asked = self._budget.has_bytes() and self.campaigns.reasons(seen)
        if asked or any(reason.rule == FLAG for reason in found):
            return self._count(*self._if_bytes((*(asked or ()), *found)))
        # (3) to (5)
        return self._count(*self._unless_known(seen, found)) if found else ()

    def part_done(self, part_id: str) -> None:
        """Forget the frames of a finished part."""
        self._memory.part_done(part_id)

    @property
    def over_limit(self) -> int:
        """Return how many hard frames were let go for want of budget."""
        return sum(count for name, count in self.outcomes.items() if name.startswith(("over-", "reserved")))

    def _if_bytes(self, reasons: tuple[Reason, ...]) -> tuple[str, tuple[Reason, ...]]:
        return ("asked", reasons) if self._budget.has_bytes() else ("over-bytes", ())

    def _unless_known(self, seen: SeenFrame, found: tuple[Reason, ...]) -> tuple[str, tuple[Reason, ...]]:
        look = None
        if self._looks is not None and seen.image is not None:
            look = look_of(seen.image, seen.features)
            if self._looks.is_duplicate(seen, look):
                return "duplicate", ()
        refusal = self._budget.take(max(reason.score for reason in found), _class_of(seen))
        if refusal:
            return refusal, ()
        if self._looks is not None and look is not None:
            self._looks.add(seen, look)
        return "kept", found

    def _count(self, outcome: str, reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
        self.outcomes[outcome] += 1
        return reasons

    def _tell_of_novelty(self, seen: SeenFrame) -> None:
        """Say once that novelty cannot be told, since the serving model does not say what it knew."""
        if self._wants_novelty and seen.features is not None and seen.reference is None:
            self._wants_novelty = False
            self._events.note("mining.novelty-off", why="the model carries no feature reference")


def miner_of(config: MiningConfig, counters: Counters | None = None, events: Events | None = None) -> Miner:
    """Build the miner the configuration describes; `counters` tell the bytes kept since before a restart."""
    known = counters or Counters()
    parts = MinerParts(
        budget=Budget(limits_of(config), bytes_today=lambda: known.value(day_name(utc_now()))),
        looks=None if config.near_duplicates else RecentLooks(_look_limits(config)),
        memory=Memory(config.low),
        recent=RecentFrames(config.remember_frames),
        events=events or Events(),
    )
    return Miner(rules_of(config), parts)


def counts_of(miner: Miner) -> dict[str, tuple[str, Callable[[], int]]]:
    """Return what an exporter reads: by metric name, words for it and how to read it."""
    return {
        f"whetstone_mining_{outcome.replace('-', '_')}": (
            f"Hard frames that were {words}.",
            partial(miner.outcomes.__getitem__, outcome),
        )
        for outcome, words in OUTCOMES.items()
    }


def rules_of(config: MiningConfig) -> tuple[MiningRule, ...]:
    """Return the rules that are switched on, the most telling first."""
    rules: tuple[tuple[bool, MiningRule], ...] = (
        (True, Flagged()),
        (True, UncertainScore(config.low, config.high)),
        (config.class_margin > 0, ClassMargin(config.low, config.class_margin)),
        (config.mixed_overlap > 0, MixedOverlap(config.low, config.mixed_overlap)),
        (config.vanished, Vanished(config.low, config.high)),
        (config.flicker > 0, Flicker(config.flicker)),
        (config.novelty > 0, Novelty(config.novelty)),
        (config.rare_share > 0, RareClass(config.low, config.rare_share)),
        (config.nothing_seen, NothingSeen(config.low)),
        (config.random_share > 0, RandomFloor(config.random_share)),
    )
    return tuple(rule for is_on, rule in rules if is_on)


def _look_limits(config: MiningConfig) -> LookLimits:
    return LookLimits(
        features=config.duplicate_features,
        bits=config.duplicate_bits,
        grey=config.duplicate_grey,
        seconds=config.duplicate_s,
        low=config.low,
    )


def _class_of(seen: SeenFrame) -> int | None:
    """Return the class of the strongest detection, by which a frame is counted."""
    found = seen.detections
    return int(found.class_id[int(found.confidence.argmax())]) if len(found) else None
