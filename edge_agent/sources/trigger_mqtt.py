"""Be triggered by messages on an MQTT broker of the line, over a connection of its own."""

from __future__ import annotations

import uuid
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.login import log_in
from edge_agent.settings.camera import TriggerConfig
from edge_agent.sources.trigger import AWAY, ThreadedTrigger, TriggerPulse, lost_between, read_payload

SERVE_S = 0.25
RETRY_MAX_S = 5.0


class MqttTrigger(ThreadedTrigger):
    """Turn every message on a topic into a pulse, stamped on arrival.

    The session is a clean one: a pulse that waited at the broker would name a part long gone. Retained
    messages are passed over for the same reason.
    """

    def __init__(self, config: TriggerConfig, counters: Counters, events: Events) -> None:
        super().__init__(counters, events)
        self._config = config
        self._where = f"{config.host}:{config.real_port}"
        self._number: int | None = None
        self._client = self._new_client()

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"whetstone-trigger-{uuid.uuid4().hex[:12]}"
        )
        client.connect_timeout = self._config.away_s
        log_in(client, self._config, "camera.trigger")
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _run(self) -> None:
        backoff = Backoff(0.2, RETRY_MAX_S)
        while not self._stop.is_set():
            try:
                self._client.connect(self._config.host, self._config.real_port, keepalive=10)
                self._serve(backoff)
                self._set_away("the connection was lost")
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever paho raises
                self._set_away(f"{type(error).__name__}: {error}")
            self._stop.wait(backoff.next_s())

    def _serve(self, backoff: Backoff) -> None:
        while self._client.loop(SERVE_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            if self._client.is_connected():
                backoff.reset()
            if self._stop.is_set():
                self._client.disconnect()
                return

    def _set_away(self, words: str) -> None:
        if not self._stop.is_set():
            self._events.set_problem(AWAY, f"{self._where}: {words}; parts go by untold")

    def _on_connect(self, client: paho.Client, _: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._set_away(str(reason))
            return
        client.subscribe(self._config.topic, qos=1)

    def _on_subscribe(self, client: paho.Client, _: Any, mid: int, reasons: Any, properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._set_away(f"the broker refused the topic {self._config.topic}")
            return
        self._events.clear_problem(AWAY)
        self._events.note("camera.trigger-ready", where=self._where, topic=self._config.topic)

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        pulse = TriggerPulse()
        if message.retain:
            self._events.note("camera.trigger-stale", topic=message.topic)
            return
        told = read_payload(bytes(message.payload))
        lost = 0
        if told.number is not None:
            lost, self._number = lost_between(self._number, told.number), told.number
        self._queue.put(TriggerPulse(told.part_id, pulse.at_mono, told.flag), lost=lost)
