"""Speak MQTT from the cloud's side through one port: paho behind it, and an in-memory twin.

Messages are hints (law 1), so nothing here is durable: what a lost message would have said, a sweep finds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_contracts import topics
from flows.broker import let_in
from flows.settings import BrokerSettings

log = logging.getLogger("whetstone.flows")

Handler = Callable[[str, bytes], None]
"""Called with topic and payload on the link's own thread; it must return at once."""


class CloudLink(Protocol):
    """Hear every box and speak to any."""

    def start(self, handler: Handler) -> None:
        """Connect in the background, however long it takes; hand every message of boxes to `handler`."""
        ...

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a message if there is a connection; without one it is dropped, since it is only a hint."""
        ...

    def is_connected(self) -> bool:
        """Tell whether the broker is reachable now."""
        ...

    def stop(self) -> None:
        """Disconnect; may be called twice."""
        ...


class MqttLink:
    """Be the link over a real broker; reconnects by itself.

    Args:
        settings: address and user; MQTT 3.1.1.
        folder: what relative paths in the settings are relative to.
    """

    def __init__(
        self, settings: BrokerSettings, folder: Path, *, client_id: str = "whetstone-ingest"
    ) -> None:
        self._settings = settings
        self._handler: Handler | None = None
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv311, clean_session=True
        )
        # An exception in a callback would end paho's thread and with it the link.
        self._client.suppress_exceptions = True
        self._client.reconnect_delay_set(min_delay=1, max_delay=15)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._heard
        let_in(self._client, settings, folder)

    def start(self, handler: Handler) -> None:
        """Connect in the background and hand every message of boxes to `handler`."""
        self._handler = handler
        self._client.connect_async(self._settings.host, self._settings.port, keepalive=20)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send a message if there is a connection."""
        # paho would queue without bound while away; hints that old are worth nothing.
        if self._client.is_connected():
            self._client.publish(topic, payload, qos=1, retain=retain)

    def is_connected(self) -> bool:
        """Tell whether the broker is reachable now."""
        return bool(self._client.is_connected())

    def stop(self) -> None:
        """Disconnect; may be called twice."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            log.warning("link.refused reason=%s", reason)
            return
        log.info("link.connected host=%s port=%d", self._settings.host, self._settings.port)
        client.subscribe(topics.all_up(), qos=1)

    def _disconnected(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        log.warning("link.disconnected reason=%s", reason)

    def _heard(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if self._handler is not None:
            self._handler(message.topic, bytes(message.payload))


class MemoryLink:
    """Be the link without a broker: keeps what was published and lets tests and simulators speak.

    Attributes:
        sent: every message published, in order, as (topic, payload).
        retained: the newest retained message of each topic.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.retained: dict[str, bytes] = {}
        self._handler: Handler | None = None
        self._lock = threading.Lock()

    def start(self, handler: Handler) -> None:
        """Remember who listens."""
        self._handler = handler

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Keep a message."""
        with self._lock:
            self.sent.append((topic, payload))
            if retain:
                self.retained[topic] = payload

    def hear(self, topic: str, payload: bytes) -> None:
        """Let a box say something."""
        if self._handler is not None:
            self._handler(topic, payload)

    def is_connected(self) -> bool:
        """Tell that memory is always reachable."""
        return True

    def stop(self) -> None:
        """Stop listening."""
        self._handler = None
