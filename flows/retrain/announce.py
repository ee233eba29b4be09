"""Tell devices of a rollout at once, by message; it may be lost, since ingest says it again (law 1)."""

from __future__ import annotations

import logging
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_contracts.releases import Rollout
from flows.broker import let_in
from flows.context import Context
from flows.rollouts.orders import publish_orders

log = logging.getLogger("whetstone.retrain")

ANSWER_SECONDS = 5.0


class _Link:
    """Be the connection of one announcement."""

    def __init__(self, client: mqtt.Client) -> None:
        self._client = client
        self.sent: list[mqtt.MQTTMessageInfo] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> object:
        """Hand one message to the broker."""
        self.sent.append(self._client.publish(topic, payload, qos=1, retain=retain))
        return None


def announce(ctx: Context, rollout: Rollout) -> bool:
    """Publish a rollout's orders, retained; return whether the broker took them."""
    broker = ctx.settings.broker
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"whetstone-flow-{uuid.uuid4().hex[:8]}")
    let_in(client, broker, ctx.folder)
    try:
        client.connect(broker.host, broker.port, keepalive=30)
    except OSError as error:
        log.warning("retrain.not_announced rollout=%s error=%s", rollout.rollout_id, error)
        return False
    client.loop_start()
    try:
        link = _Link(client)
        publish_orders(link, rollout)
        for message in link.sent:
            message.wait_for_publish(ANSWER_SECONDS)
        return all(message.is_published() for message in link.sent)
    finally:
        client.disconnect()
        client.loop_stop()
