"""Start a real Mosquitto for tests, and speak to it as a box does."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_contracts import topics
from tests.helpers import free_port, program, wait_until


@contextmanager
def mosquitto(folder: Path, port: int | None = None) -> Iterator[int]:
    """Run a broker on loopback; give its port."""
    path = program("mosquitto", "apt-get install mosquitto")
    port = port or free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with (folder / "mosquitto.log").open("ab") as log:
        process = subprocess.Popen([path, "-c", str(config)], stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


class MqttBox:
    """Speak as a box over a real broker and keep what is said to it."""

    def __init__(self, port: int, task_id: str, device_id: str) -> None:
        self.task_id = task_id
        self.device_id = device_id
        self.heard: list[tuple[str, bytes]] = []
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device_id)
        self._client.on_connect = lambda client, *_: client.subscribe(
            topics.all_down(task_id, device_id), qos=1
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _d, message: self.heard.append((message.topic, message.payload))
        self._client.reconnect_delay_set(1, 1)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def wait_ready(self) -> None:
        """Wait until the box hears what is said to it."""
        wait_until(self._ready.is_set, 20, "the box to be connected")

    def say(self, kind: topics.UpKind, payload: bytes, *, device_id: str | None = None) -> None:
        """Publish one message, if need be on a topic that is not the box's own."""
        self._client.publish(topics.up(self.task_id, device_id or self.device_id, kind), payload, qos=1)

    def newest(self, kind: topics.DownKind) -> bytes | None:
        """Return the newest message of a kind, None when there is none."""
        topic = topics.down(self.task_id, self.device_id, kind)
        return next((payload for heard, payload in reversed(self.heard) if heard == topic), None)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
