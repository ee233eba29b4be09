"""Read what the cloud sends to the box, and give each message to the part it is for.

A message is a hint from an untrusted place: malformed, foreign or expired ones are counted and dropped,
and an order can only choose among signed releases.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.events import Events
from edge_agent.mining.verdict import Miner
from fleet_contracts import topics
from fleet_contracts.base import WireDocument, decode, utc_now
from fleet_contracts.errors import ContractError, ForeignDocument
from fleet_contracts.messages import CaptureCommand, Grant, Receipt
from fleet_contracts.releases import RolloutOrder

logger = logging.getLogger("whetstone.edge.inbox")
Down = Grant | Receipt | RolloutOrder | CaptureCommand
_KINDS: dict[str, type[Down]] = {
    "grant": Grant,
    "receipt": Receipt,
    "order": RolloutOrder,
    "capture": CaptureCommand,
}


@dataclass(frozen=True, slots=True)
class Recipients:
    """Hold who gets what; each call must return soon."""

    grant: Callable[[Grant], None]
    receipt: Callable[[Receipt], None]
    order: Callable[[RolloutOrder], None]
    capture: Callable[[CaptureCommand], None]


class Inbox:
    """Check messages and pass them on."""

    def __init__(self, config: AgentConfig, recipients: Recipients, events: Events) -> None:
        self._config = config
        self._recipients = recipients
        self._events = events

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one message in; never raises for what it says."""
        try:
            document = self._read(topic, payload)
        except ContractError as error:
            self._events.note("inbox.refused", topic=topic, problem=str(error))
            return
        if isinstance(document, Grant):
            self._recipients.grant(document)
        elif isinstance(document, Receipt):
            self._recipients.receipt(document)
        elif isinstance(document, RolloutOrder):
            self._recipients.order(document)
        else:
            self._recipients.capture(document)

    def _read(self, topic: str, payload: bytes) -> Down:
        place = topics.parse(topic)
        kind = _KINDS.get(place.kind)
        if kind is None:
            raise ForeignDocument(expected="a message for a box", got=place.kind, where=topic)
        document = decode(kind, payload, where=topic)
        self._require_ours(document, document.device_id, topic)
        return document

    def _require_ours(self, document: WireDocument, device_id: str, topic: str) -> None:
        ours = (self._config.task_id, self._config.device_id)
        if (document.task_id, device_id) != ours:
            raise ForeignDocument(
                expected=f"{ours[0]}/{ours[1]}", got=f"{document.task_id}/{device_id}", where=topic
            )


class CaptureDesk:
    """Carry out capture commands, each once, as long as they have not expired."""

    def __init__(self, miner: Miner, events: Events) -> None:
        self._miner = miner
        self._events = events
        self._done: deque[str] = deque(maxlen=256)

    def take(self, command: CaptureCommand) -> None:
        """Let the next frames be kept; a command heard twice is carried out once."""
        if command.command_id in self._done or command.expires_at <= utc_now():
            return
        self._done.append(command.command_id)
        self._events.note("capture.asked", command=command.command_id, frames=command.frames)
        self._miner.capture(command.frames, f"asked by {command.asked_by}")
