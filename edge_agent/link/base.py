"""Say what a link to the broker can do. The real one is `mqtt`, its in-memory twin is `memory`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


def _ignore(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Will:
    """Hold the retained message the broker sends when the link is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class LinkHandlers:
    """Hold what a link calls, on its own thread; a handler must return soon.

    `on_message` gets topic and payload; `on_connected` is called after each subscription.
    """

    on_message: Callable[[str, bytes], None] = _ignore
    on_connected: Callable[[], None] = _ignore


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Say who connects, what it listens to, and its last will."""

    client_id: str
    filters: tuple[str, ...]
    will: Will | None = None


class Link(Protocol):
    """Be a connection that comes and goes."""

    def start(self, handlers: LinkHandlers) -> None:
        """Begin to connect, and keep connecting whenever the broker is away."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to the broker; return False, and forget it, when the broker is away. Never waits."""

    def is_connected(self) -> bool:
        """Tell whether the broker is there now."""

    def stop(self) -> None:
        """Disconnect in good order, so that the last will is not sent."""


def topic_matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic matches an MQTT filter with `+` and `#`."""
    wanted, steps = pattern.split("/"), topic.split("/")
    for index, step in enumerate(wanted):
        if step == "#":
            return True
        if index >= len(steps) or step not in ("+", steps[index]):
            return False
    return len(wanted) == len(steps)
