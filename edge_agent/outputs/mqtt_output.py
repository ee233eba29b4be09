"""Publish a JSON document per part to a broker of the plant, with a client of our own.

    <topic>/part       one document per part, when it is due
    <topic>/heartbeat  toggles between {"beat": 0} and {"beat": 1}
    <topic>/failsafe   retained: {"safe": true, "why": "..."}; also the last will: the broker says it for us

paho's own reconnecting has no jitter, and its queue would deliver verdicts of parts that are long gone. So
the worker's thread serves the socket itself, a message counts when the broker has acknowledged it, and
nothing is queued.
"""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.errors import OutputAway
from edge_agent.login import log_in
from edge_agent.outputs.base import LANES, Point, Shot, Write
from edge_agent.settings.outputs import MqttOutput

KEEPALIVE_S = 5


class MqttDevice:
    """Be one topic tree on one broker.

    Raises:
        ConfigError: a certificate or password file cannot be read.
    """

    points: frozenset[Point] = frozenset((*LANES, "heartbeat", "failsafe"))

    def __init__(self, config: MqttOutput) -> None:
        self._config = config
        self._timeout_s = config.timeout_ms / 1000.0
        self._client: paho.Client | None = None
        self._welcome: str | None = None
        self._broken = False
        self._acknowledged: set[int] = set()
        # Wrong files are told at the start and not by the first connection.
        self._new_client()

    def connect(self) -> None:
        """Connect and wait for the broker's welcome."""
        client, self._welcome = self._new_client(), None
        self._acknowledged.clear()
        try:
            client.connect(self._config.host, self._config.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise self._away("a connection", str(error)) from error
        self._serve(client, lambda: self._welcome is not None, "a welcome")
        if self._welcome:
            raise self._away("a welcome", self._welcome)
        self._client, self._broken = client, False

    def write(self, write: Write) -> None:
        """Publish and wait until the broker has it; the end of a pulse is no message."""
        message = _message_of(write)
        if message is None:
            return
        if self._client is None:
            raise self._away("a connection", "none")
        name, content = message
        info = self._client.publish(
            f"{self._config.topic}/{name}",
            json.dumps(content, separators=(",", ":")),
            qos=1,
            retain=name == "failsafe",
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._away(f"{name} to be sent", str(info.rc))
        self._serve(self._client, lambda: info.mid in self._acknowledged, f"the broker's word for {name}")
        self._acknowledged.discard(info.mid)

    def close(self) -> None:
        """Say goodbye, so that the last will is not sent; one that failed goes without, so that it is."""
        client, self._client = self._client, None
        if client is None:
            return
        connection: Any = client.socket()
        if self._broken and connection is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        else:
            client.disconnect()
        client.loop(0.01)

    def _serve(self, client: paho.Client, done: Any, what: str) -> None:
        """Serve the socket until something has happened, within the timeout."""
        deadline = time.monotonic() + self._timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                self._broken = True
                raise self._away(what, f"none in {self._config.timeout_ms:g} ms")
            if client.loop(min(left, 0.05)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise self._away(what, self._welcome or "a closed connection")

    def _new_client(self) -> paho.Client:
        config = self._config
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=config.client_id, clean_session=True)
        client.connect_timeout = max(self._timeout_s, 0.2)
        client.suppress_exceptions = False
        log_in(client, config, f"output {config.name}")
        last_words = json.dumps({"safe": True, "why": "the box is gone"}, separators=(",", ":"))
        client.will_set(f"{config.topic}/failsafe", last_words, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._welcome = str(reason) if reason.is_failure else ""

    def _on_publish(self, client: paho.Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        self._acknowledged.add(mid)

    def _away(self, expected: str, got: str) -> OutputAway:
        return OutputAway(
            expected=expected,
            got=got,
            where=f"mqtt {self._config.host}:{self._config.port}",
            now="Check the plant's broker, and whether it lets this user publish there.",
        )


def _message_of(write: Write) -> tuple[str, dict[str, object]] | None:
    """Return topic and content of a write, or None when it is none of a message's business."""
    if write.point == "heartbeat":
        return "heartbeat", {"beat": write.value}
    if write.point == "failsafe":
        return "failsafe", {"safe": bool(write.value), "why": write.note}
    if write.shot is None:
        return None
    return "part", _part(write.shot, write.point)


def _part(shot: Shot, lane: Point) -> dict[str, object]:
    return {
        "part_id": shot.part_id,
        "number": shot.number,
        "camera": shot.camera,
        "verdict": shot.verdict,
        "lane": lane,
        "captured_at": shot.captured_at.isoformat(),
        "findings": [
            {"class": one.class_name, "confidence": round(one.confidence, 4), "frames": one.frames}
            for one in shot.findings
        ],
    }
