"""Name every MQTT topic: `whetstone/v1/<task>/up|down/<device>/<what>`.

A broker's ACL pins `<device>` to the client's name, so a box can only speak for itself and only hear
what is meant for it. `up` goes to the cloud, `down` to the box.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from fleet_contracts.errors import BadAddress

PREFIX = "whetstone/v1"
UpKind = Literal["grant-request", "uploaded", "report", "status", "order-request", "command-answer"]
DownKind = Literal["grant", "receipt", "order", "capture"]
RETAINED: frozenset[str] = frozenset({"status", "order"})
"""Kinds published retained: a device's last will and its desired release."""


class Topic(NamedTuple):
    """Hold the parts of a topic."""

    task_id: str
    direction: Literal["up", "down"]
    device_id: str
    kind: str


def up(task_id: str, device_id: str, kind: UpKind) -> str:
    """Return the topic on which a box speaks."""
    return f"{PREFIX}/{task_id}/up/{device_id}/{kind}"


def down(task_id: str, device_id: str, kind: DownKind) -> str:
    """Return the topic on which a box listens."""
    return f"{PREFIX}/{task_id}/down/{device_id}/{kind}"


def all_up() -> str:
    """Return the filter by which the cloud hears every box of every task."""
    return f"{PREFIX}/+/up/+/+"


def all_down(task_id: str, device_id: str) -> str:
    """Return the filter by which a box hears everything meant for it."""
    return f"{PREFIX}/{task_id}/down/{device_id}/+"


def parse(topic: str) -> Topic:
    """Read a topic back.

    Raises:
        BadAddress: not one of our topics, or of a kind that does not exist in that direction.
    """
    steps = topic.split("/")
    kinds = {"up": get_args(UpKind), "down": get_args(DownKind)}
    if len(steps) == 6 and "/".join(steps[:2]) == PREFIX and steps[5] in kinds.get(steps[3], ()):
        return Topic(steps[2], "up" if steps[3] == "up" else "down", steps[4], steps[5])
    raise BadAddress(expected=f"{PREFIX}/<task>/up|down/<device>/<kind>", got=topic, where="broker")
