"""Carry out capture commands, each once, and answer every one of them, also those that cannot be carried out.

    heard       -> begun, or refused (expired, too many); answered at once
    heard again -> not begun again; answered with how it stands
    ended       -> answered `done` or `expired` from the desk's own thread, since the loop may not publish
    restart     -> commands and their counts come from `captures.json`, so none is carried out twice

An answer may get lost: the cloud sends the command again until one ends it (law 1).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from edge_agent.config import AgentConfig
from edge_agent.events import Events
from edge_agent.files import write_atomically
from edge_agent.mining.campaigns import Campaign
from edge_agent.mining.verdict import Miner
from edge_agent.outbox.writer import KeptFrame
from fleet_contracts import topics
from fleet_contracts.base import Value, encode, utc_now
from fleet_contracts.messages import CaptureCommand, CommandAnswer, CommandOutcome

logger = logging.getLogger("whetstone.edge.captures")
STATE_FILE = "captures.json"
LOOK_EVERY_S = 0.5
SAVE_EVERY_S = 60.0
SAVE_EVERY_FRAMES = 20
"""How often mere progress is stored, to spare the disk; a beginning and an end are stored at once.

After a kill so many frames, and those of half a second, may be brought twice.
"""
JUNK_EVERY_S = 1.0
"""A message nobody can read is answered at most so often, so that junk is not echoed."""


class _SavedCampaign(Value):
    command: CaptureCommand
    outcome: CommandOutcome
    kept: Annotated[int, Field(ge=0)] = 0
    before: Annotated[int, Field(ge=0)] = 0
    detail: str = ""


_SAVED: TypeAdapter[tuple[_SavedCampaign, ...]] = TypeAdapter(tuple[_SavedCampaign, ...])


@dataclass(frozen=True, slots=True)
class DeskLinks:
    """Hold what a desk reaches: the broker, and the outbox's writer. Neither call waits."""

    publish: Callable[[str, bytes], object]
    keep: Callable[[KeptFrame], bool]


class CaptureDesk:
    """Take commands in on the link's thread, and watch and answer them on one of its own.

    Args:
        config: whose box this is and where its state lies.
        miner: whose campaigns are begun and whose recent frames are asked for.
        links: where answers and frames go.
        events: told of every command.
    """

    def __init__(self, config: AgentConfig, miner: Miner, links: DeskLinks, events: Events) -> None:
        self._config = config
        self._campaigns = miner.campaigns
        self._recent = miner.recent
        self._links = links
        self._events = events
        self._path = config.data_dir / STATE_FILE
        self._changed = threading.Event()
        self._junk_at = -JUNK_EVERY_S
        self._saved_at = 0.0
        self._saved: tuple[Campaign, ...] = ()
        self._restore()

    def take(self, command: CaptureCommand) -> None:
        """Begin a command, or say why not; one heard twice is carried out once."""
        campaign, is_new = self._campaigns.start(command)
        if not is_new:
            self._events.note("command.heard-again", command=command.command_id, outcome=campaign.outcome)
        elif campaign.is_running:
            self._events.note(
                "command.asked", command=command.command_id, frames=command.frames, by=command.asked_by
            )
            campaign = self._keep_before(campaign)
        else:
            self._events.note("command.refused", command=command.command_id, why=campaign.detail)
        self._answer(campaign)
        self._changed.set()

    def refuse(self, command_id: str, problem: str) -> None:
        """Answer a message on our topic that is no command for us."""
        self._events.note("command.refused", command=command_id, why=problem)
        now = time.monotonic()
        if not command_id and now - self._junk_at < JUNK_EVERY_S:
            return
        self._junk_at = now
        self._publish(self._answer_of(command_id, "refused", detail=problem))

    def run(self, stop: threading.Event) -> None:
        """End, answer and store what changed until `stop` is set; the body of the desk's thread."""
        while not stop.is_set():
            self._guarded()
            stop.wait(LOOK_EVERY_S)
        self._guarded(at_the_end=True)

    def look(self, *, at_the_end: bool = False) -> None:
        """Do one round: end what ran out of time, answer what ended, store what changed."""
        self._campaigns.end_expired()
        ended = self._campaigns.take_ended()
        for campaign in ended:
            self._events.note(
                f"command.{campaign.outcome}", command=campaign.command.command_id, frames=campaign.kept
            )
            self._answer(campaign)
        late = time.monotonic() - self._saved_at >= SAVE_EVERY_S
        if ended or late or at_the_end or self._changed.is_set() or self._unsaved() >= SAVE_EVERY_FRAMES:
            self._changed.clear()
            self._save()

    def _guarded(self, *, at_the_end: bool = False) -> None:
        try:
            self.look(at_the_end=at_the_end)
        except Exception as error:  # the thread's outer edge: one odd command must not end all
            self._events.note("command.failed", problem=f"{type(error).__name__}: {error}")
            logger.exception("command.failed")

    def _unsaved(self) -> int:
        """Return the frames that commands brought since their state was stored."""
        stored = {one.command.command_id: one.kept for one in self._saved if one.is_running}
        return sum(kept - stored.get(name, 0) for name, kept in self._campaigns.running().items())

    def _keep_before(self, campaign: Campaign) -> Campaign:
        """Hand over the frames from before the command, whatever they show."""
        command = campaign.command
        if not command.before:
            return campaign
        reasons = (campaign.reason(),)
        kept = sum(
            self._links.keep(replace(frame, reasons=reasons)) for frame in self._recent.take(command.before)
        )
        return self._campaigns.count_before(command.command_id, kept)

    def _answer(self, campaign: Campaign) -> None:
        detail = campaign.detail
        if campaign.command.before and not detail:
            detail = f"{campaign.before} of {campaign.command.before} frames from before"
        answer = self._answer_of(campaign.command.command_id, campaign.outcome, detail=detail)
        self._publish(answer.model_copy(update={"frames_kept": campaign.kept + campaign.before}))

    def _answer_of(self, command_id: str, outcome: CommandOutcome, *, detail: str) -> CommandAnswer:
        return CommandAnswer(
            task_id=self._config.task_id,
            device_id=self._config.device_id,
            command_id=command_id[:128],
            outcome=outcome,
            detail=detail[:1000],
            answered_at=utc_now(),
        )

    def _publish(self, answer: CommandAnswer) -> None:
        topic = topics.up(self._config.task_id, self._config.device_id, "command-answer")
        self._links.publish(topic, encode(answer))

    def _restore(self) -> None:
        try:
            saved = _SAVED.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            # At worst a command is carried out again; the next save replaces the file.
            self._events.note("command.state-unreadable", file=str(self._path), problem=str(error)[:300])
            return
        self._saved = tuple(
            Campaign(one.command, one.outcome, one.kept, one.before, one.detail) for one in saved
        )
        self._campaigns.restore(self._saved)

    def _save(self) -> None:
        known = self._campaigns.all()
        self._saved_at = time.monotonic()
        if known == self._saved:
            return
        rows = tuple(
            _SavedCampaign(
                command=one.command, outcome=one.outcome, kept=one.kept, before=one.before, detail=one.detail
            )
            for one in known
        )
        try:
            write_atomically(self._path, _SAVED.dump_json(rows))
        except OSError as error:
            self._events.set_problem("command.state", f"{self._path}: {error.strerror}")
            return
        self._saved = known
        self._events.clear_problem("command.state")
