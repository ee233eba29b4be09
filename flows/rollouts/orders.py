"""Send a rollout's orders as retained messages; losing one delays a box, never misleads it (laws 1 and 7)."""

from __future__ import annotations

from typing import Protocol

from fleet_contracts import topics
from fleet_contracts.base import encode
from fleet_contracts.releases import Rollout
from flows.rollouts.rules import orders_of


class OrderLink(Protocol):
    """Publish messages; the ingest service's broker connection is the real one."""

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> object:
        """Hand one message to the broker, kept for later subscribers when `retain` is set."""
        ...


def publish_orders(link: OrderLink, rollout: Rollout) -> int:
    """Send every device of a rollout its order, retained; return how many.

    To be called at the start and again from time to time: a broker may forget what it retained.
    """
    orders = orders_of(rollout)
    for order in orders:
        link.publish(topics.down(order.task_id, order.device_id, "order"), encode(order), retain=True)
    return len(orders)
