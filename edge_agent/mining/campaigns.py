"""Follow the capture commands that run: which frames they want, how many they have, and when they end.

The loop asks `reasons` for every frame; everything else happens on the thread that talks with the cloud. What
ended is put on a queue for that thread, since the loop may neither publish nor write (law 3).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from edge_agent.mining.seen import SeenFrame
from fleet_contracts.base import utc_now
from fleet_contracts.messages import CaptureCommand, CommandOutcome
from fleet_contracts.samples import Reason

CAPTURE = "capture"
MOST_RUNNING = 8
"""Commands that may run at once; more are refused."""
REMEMBERED = 256
"""Commands remembered after their end, so that none is carried out twice."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Hold a command and what became of it."""

    command: CaptureCommand
    outcome: CommandOutcome = "accepted"
    kept: int = 0
    """Frames so far of those the command asks for."""
    before: int = 0
    """Frames from before the command, which it asked for besides."""
    detail: str = ""

    @property
    def is_running(self) -> bool:
        """Tell whether frames are still wanted."""
        return self.outcome == "accepted"

    def wants(self, seen: SeenFrame) -> bool:
        """Tell whether a frame shows what is asked for; a class the model does not know never shows."""
        command = self.command
        if command.asks_for_all:
            return True
        found = seen.detections
        rows = (found.confidence >= command.low) & (found.confidence <= command.high)
        if command.class_name:
            if command.class_name not in seen.class_names:
                return False
            rows &= found.class_id == seen.class_names.index(command.class_name)
        return bool(np.any(rows))

    def reason(self) -> Reason:
        """Return why a wanted frame is kept."""
        named = f", campaign {self.command.campaign}" if self.command.campaign else ""
        return Reason(rule=CAPTURE, score=1.0, detail=f"asked by {self.command.asked_by}"[:200] + named)


class Campaigns:
    """Keep the commands that run and those that ended of late; safe to call from several threads.

    Args:
        now: the present moment; commands end by the clock on the wall.
    """

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._all: OrderedDict[str, Campaign] = OrderedDict()
        self._running: tuple[str, ...] = ()
        self._ended: list[Campaign] = []
        self._counted: tuple[str, ...] = ()

    def restore(self, known: Iterable[Campaign]) -> None:
        """Go on with what was known before a restart."""
        with self._lock:
            for campaign in known:
                self._put(campaign)

    def start(self, command: CaptureCommand) -> tuple[Campaign, bool]:
        """Take a command in; return how it stands and whether it is new. A known one is not begun again."""
        with self._lock:
            known = self._all.get(command.command_id)
            if known is not None:
                return known, False
            problem = self._problem(command)
            campaign = Campaign(command, "refused", detail=problem) if problem else Campaign(command)
            self._put(campaign)
            return campaign, True

    def reasons(self, seen: SeenFrame) -> tuple[Reason, ...]:
        """Count a frame for every command that wants it and return their reasons; for the loop's thread."""
        self._counted = ()
        if not self._running:
            return ()
        now, found, counted = self._now(), [], []
        with self._lock:
            for name in self._running:
                campaign = self._all[name]
                if campaign.command.expires_at <= now:
                    self._end(campaign, "expired")
                elif campaign.wants(seen):
                    found.append(campaign.reason())
                    counted.append(name)
                    self._count(campaign)
        self._counted = tuple(counted)
        return tuple(found)

    def take_back(self) -> None:
        """Count the frame of the last `reasons` no more, since it could not be kept; for the loop's thread.

        A command that just ended by it goes on, unless its end was told already.
        """
        with self._lock:
            for name in self._counted:
                campaign = self._all.get(name)
                if campaign is None or not (campaign.is_running or campaign in self._ended):
                    continue
                self._ended = [one for one in self._ended if one != campaign]
                self._put(replace(campaign, outcome="accepted", kept=campaign.kept - 1))
            self._counted = ()

    def count_before(self, command_id: str, frames: int) -> Campaign:
        """Count frames from before the command; they come on top of those it asks for."""
        with self._lock:
            campaign = replace(self._all[command_id], before=frames)
            self._put(campaign)
            return campaign

    def end_expired(self) -> None:
        """End what ran out of time, also when no frame comes."""
        now = self._now()
        with self._lock:
            for name in self._running:
                if self._all[name].command.expires_at <= now:
                    self._end(self._all[name], "expired")

    def take_ended(self) -> list[Campaign]:
        """Return the campaigns that ended since the last call."""
        with self._lock:
            ended, self._ended = self._ended, []
        return ended

    def running(self) -> dict[str, int]:
        """Return the frames kept so far of every running command, by its id."""
        with self._lock:
            return {name: self._all[name].kept for name in self._running}

    def all(self) -> tuple[Campaign, ...]:
        """Return every command that is remembered, oldest first."""
        with self._lock:
            return tuple(self._all.values())

    def _problem(self, command: CaptureCommand) -> str:
        if command.expires_at <= self._now():
            return f"expired at {command.expires_at.isoformat()}, here it is {self._now().isoformat()}"
        if len(self._running) >= MOST_RUNNING:
            return f"{MOST_RUNNING} commands run already: {', '.join(self._running)}"
        return ""

    def _count(self, campaign: Campaign) -> None:
        grown = replace(campaign, kept=campaign.kept + 1)
        if grown.kept >= campaign.command.frames:
            self._end(grown, "done")
        else:
            self._put(grown)

    def _end(self, campaign: Campaign, outcome: CommandOutcome) -> None:
        ended = replace(campaign, outcome=outcome)
        self._put(ended)
        self._ended.append(ended)

    def _put(self, campaign: Campaign) -> None:
        self._all[campaign.command.command_id] = campaign
        self._running = tuple(name for name, one in self._all.items() if one.is_running)
        while len(self._all) > REMEMBERED:
            oldest = next((name for name, one in self._all.items() if not one.is_running), None)
            if oldest is None:
                return
            del self._all[oldest]
