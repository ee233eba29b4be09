"""Decide whether a frame is kept: the rules' reasons, the hourly limit, and frames asked for by name."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from edge_agent.config import MiningConfig
from edge_agent.mining.rules import CAPTURE, MiningRule, NothingSeen, RandomFloor, SeenFrame, UncertainScore
from fleet_contracts.samples import Reason

HOUR_S = 3600.0


class Miner:
    """Ask every rule about a frame; the strongest kind of reason comes first.

    Args:
        rules: asked in order; the first reason names the example in the counts.
        max_per_hour: limit on what the rules keep, 0 = none; captures are not limited.
        clock: seconds that only go forward.
    """

    def __init__(
        self, rules: Sequence[MiningRule], max_per_hour: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules = tuple(rules)
        self._max_per_hour = max_per_hour
        self._clock = clock
        self._kept_at: deque[float] = deque()
        self._lock = threading.Lock()
        self._captures = 0
        self._capture_detail = ""
        self.over_limit = 0
        """Hard frames that were let go because the hour's limit was reached."""

    def capture(self, frames: int, detail: str) -> None:
        """Keep the next `frames` frames whatever they show."""
        with self._lock:
            self._captures = max(self._captures, frames)
            self._capture_detail = detail

    def reasons_to_keep(self, seen: SeenFrame) -> tuple[Reason, ...]:
        """Return why this frame is kept; empty when it is not."""
        found = tuple(reason for rule in self._rules if (reason := rule.check(seen)) is not None)
        with self._lock:
            if self._captures > 0:
                self._captures -= 1
                return (Reason(rule=CAPTURE, score=1.0, detail=self._capture_detail), *found)
        if not found or not self._has_room():
            return ()
        return found

    def _has_room(self) -> bool:
        if self._max_per_hour == 0:
            return True
        now = self._clock()
        while self._kept_at and now - self._kept_at[0] >= HOUR_S:
            self._kept_at.popleft()
        if len(self._kept_at) >= self._max_per_hour:
            self.over_limit += 1
            return False
        self._kept_at.append(now)
        return True


def miner_of(config: MiningConfig) -> Miner:
    """Build the miner the configuration describes."""
    rules: list[MiningRule] = [UncertainScore(config.low, config.high)]
    if config.nothing_seen:
        rules.append(NothingSeen(config.low))
    if config.random_share > 0:
        rules.append(RandomFloor(config.random_share))
    return Miner(rules, config.max_per_hour)
