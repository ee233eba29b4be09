"""Be a broker and its links without a network: the in-memory twin of `mqtt`.

It keeps retained messages, sends wills, can be away, and can lose messages, as real ones do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_agent.link.base import LinkHandlers, LinkOptions, topic_matches


class MemoryBroker:
    """Deliver messages between `MemoryLink`s, at once and on the sender's thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._links: list[MemoryLink] = []
        self._retained: dict[str, bytes] = {}
        self._away = False
        self.loses: Callable[[str], bool] = lambda _: False
        """Asked for every topic whether its message gets lost."""
        self.passed: list[str] = []
        """Topics of all messages that were handed in, in order."""

    def go_away(self) -> None:
        """Cut every link; wills are not sent, since nobody is there to send them."""
        with self._lock:
            self._away = True
            for link in self._links:
                link.online = False

    def come_back(self) -> None:
        """Take the links in again."""
        with self._lock:
            self._away = False
            links = list(self._links)
        for link in links:
            self.attach(link)

    def drop(self, link: MemoryLink) -> None:
        """Lose one link as by a pulled cable: its will is sent."""
        self.detach(link)
        if link.options.will is not None:
            self.hand_in(link.options.will.topic, link.options.will.payload, retain=True)

    def attach(self, link: MemoryLink) -> None:
        """Take a link in and give it what is retained."""
        with self._lock:
            if link not in self._links:
                self._links.append(link)
            if self._away or link.online:
                return
            link.online = True
            retained = list(self._retained.items())
        link.handlers.on_connected()
        for topic, payload in retained:
            link.hear(topic, payload)

    def detach(self, link: MemoryLink) -> None:
        """Let a link go."""
        with self._lock:
            link.online = False
            if link in self._links:
                self._links.remove(link)

    def hand_in(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Take a message and deliver it to whom it may concern."""
        with self._lock:
            self.passed.append(topic)
            if self.loses(topic):
                return
            if retain:
                self._retained[topic] = payload
            links = [link for link in self._links if link.online]
        for link in links:
            link.hear(topic, payload)

    def retained(self, topic: str) -> bytes | None:
        """Return what is retained on a topic."""
        with self._lock:
            return self._retained.get(topic)


class MemoryLink:
    """Be one client of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, options: LinkOptions) -> None:
        self._broker = broker
        self.options = options
        self.handlers = LinkHandlers()
        self.online = False

    def start(self, handlers: LinkHandlers) -> None:
        """Connect, now or when the broker comes back."""
        self.handlers = handlers
        self._broker.attach(self)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Hand a message to the broker; return False when it is away."""
        if not self.online:
            return False
        self._broker.hand_in(topic, payload, retain=retain)
        return True

    def is_connected(self) -> bool:
        """Tell whether the broker is there now."""
        return self.online

    def stop(self) -> None:
        """Disconnect in good order."""
        self._broker.detach(self)

    def hear(self, topic: str, payload: bytes) -> None:
        """Pass a delivered message on if it was asked for."""
        if any(topic_matches(pattern, topic) for pattern in self.options.filters):
            self.handlers.on_message(topic, payload)
