"""Read what the cloud sends to the box, and give each message to the part it is for.

A message is a hint from an untrusted place: malformed, foreign or expired ones are counted and dropped,
and an order can only choose among signed releases. A command that is refused here is answered too, by
`edge_agent.capture_desk`, when it came on our own topic.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import AgentConfig
from edge_agent.events import Events
from fleet_contracts import topics
from fleet_contracts.base import WireDocument, decode
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
    refused: Callable[[str, str], None] = lambda _command_id, _problem: None
    """Gets the id, as far as there is one, and what is wrong with a command on our topic."""


class Inbox:
    """Check messages and pass them on."""

    def __init__(self, config: AgentConfig, recipients: Recipients, events: Events) -> None:
        self._config = config
        self._recipients = recipients
        self._events = events
        self._command_topic = topics.down(config.task_id, config.device_id, "capture")

    def on_message(self, topic: str, payload: bytes) -> None:
        """Take one message in; never raises for what it says."""
        try:
            document = self._read(topic, payload)
        except ContractError as error:
            self._events.note("inbox.refused", topic=topic, problem=str(error))
            if topic == self._command_topic:
                self._recipients.refused(_command_id_in(payload), str(error))
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


def _command_id_in(payload: bytes) -> str:
    """Return the id of a command that cannot be used, so that whoever sent it hears which; "" without one."""
    try:
        found = json.loads(payload[:65536])
    except (ValueError, RecursionError):
        return ""
    name = found.get("command_id") if isinstance(found, dict) else None
    return name[:128].encode("utf-8", "replace").decode() if isinstance(name, str) else ""
