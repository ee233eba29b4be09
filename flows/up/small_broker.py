"""Serve MQTT with amqtt where Mosquitto is not installed: loopback only, one password per device, same ACL.

amqtt keeps retained messages in memory and may drop a message for a client that is away; both are only
hints (law 1), so nothing is lost, but Mosquitto is what production runs.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import logging
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from fleet_contracts import topics
from fleet_contracts.ids import SLUG
from flows.up import credentials

log = logging.getLogger("whetstone.up.broker")


def may(user: str, topic: str, *, speaks: bool) -> bool:
    """Tell whether a user may publish to a topic (`speaks`) or hear it; filters count as topics."""
    if not re.match(SLUG, user):
        return False
    if user == credentials.CLOUD_USER:
        return topic.startswith(f"{topics.PREFIX}/")
    direction = "up" if speaks else "down"
    return re.match(rf"^{topics.PREFIX}/[^/#]+/{direction}/{re.escape(user)}/[^/#]+$", topic) is not None


class DevicePasswords(BaseAuthPlugin):  # type: ignore[misc]  # amqtt's types are not followed
    """Accept users whose password is the one in the folder's secrets; read anew at every connect."""

    async def authenticate(self, *, session: Session) -> bool | None:
        """Tell whether the client may connect."""
        name, given = session.username or "", session.password or ""
        known = credentials.broker_users(Path(self.config.folder)).get(name)
        return known is not None and hmac.compare_digest(known.encode(), str(given).encode())

    @dataclass
    class Config:
        """Say where the secrets lie."""

        folder: str = ""


class OwnTopicsOnly(BaseTopicPlugin):  # type: ignore[misc]  # likewise
    """Keep every device to its own topics."""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Tell whether the client may do this."""
        user = (session.username if session else "") or ""
        return may(user, topic or "", speaks=action == Action.PUBLISH)

    @dataclass
    class Config:
        """Hold nothing: the rule is fixed."""


def broker_config(folder: Path, port: int) -> dict[str, Any]:
    """Return amqtt's configuration."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 500}},
        "plugins": {
            "flows.up.small_broker.DevicePasswords": {"folder": str(folder)},
            "flows.up.small_broker.OwnTopicsOnly": {},
        },
    }


async def serve(folder: Path, port: int) -> None:
    """Serve until cancelled."""
    broker = Broker(broker_config(folder, port))
    await broker.start()
    try:
        await asyncio.Event().wait()
    finally:
        await broker.shutdown()


def main() -> None:
    """Run the broker from the command line."""
    parser = argparse.ArgumentParser(description="Serve MQTT on loopback.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    # Mosquitto reads its passwords anew at SIGHUP; here they are read at every connect, and nothing is to do.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(serve(given.folder, given.port))


if __name__ == "__main__":
    main()
