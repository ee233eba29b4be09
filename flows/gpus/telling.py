"""Tell people what the reaper ended and where it is locked out, by log lines and Prefect events, once.

Events are of the resource `whetstone.provider.<name>`. `reaped` says which machine or lease was ended and
why; `unwatched` that nothing at this provider can be ended now (its token is refused, it cannot be set up,
or it is not in the settings any more though leases of it live); `watched` that it is looked after again.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

from flows.gpus.prefect_api import PrefectAway
from flows.gpus.reaper import Round

log = logging.getLogger("whetstone.gpus")

REAPED = "whetstone.gpus.reaped"
UNWATCHED = "whetstone.gpus.unwatched"
WATCHED = "whetstone.gpus.watched"
AGAIN_SECONDS = 600.0
"""After which the log says again what has not changed; events are sent once."""


class Listener(Protocol):
    """Take events; Prefect's server is one."""

    def emit(self, event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        """Take one event, or raise `PrefectAway`."""
        ...


class Teller:
    """Tell of rounds what is new in them."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._troubles: dict[str, str] = {}
        self._say_again: dict[str, float] = {}

    def heard(self, found: Round) -> None:
        """Tell what a round ended, and whether its provider fell out of sight or came back."""
        for one in found.ended:
            said = {"machine": one.machine, "lease": one.lease_id, "reason": one.reason}
            self._emit(REAPED, found.provider, said)
        before = self._troubles.get(found.provider, "")
        if found.locked_out:
            self._troubles[found.provider] = found.trouble
            if before != found.trouble or time.monotonic() >= self._say_again.get(found.provider, 0.0):
                self._say_again[found.provider] = time.monotonic() + AGAIN_SECONDS
                log.error("gpus.unwatched provider=%s why=%s", found.provider, found.trouble)
            if before != found.trouble:
                self._emit(UNWATCHED, found.provider, {"why": found.trouble})
        elif before and found.answered:
            del self._troubles[found.provider]
            log.info("gpus.watched provider=%s", found.provider)
            self._emit(WATCHED, found.provider, {"why": "it answers again"})

    def _emit(self, event: str, provider: str, payload: dict[str, str]) -> None:
        resource = {"prefect.resource.id": f"whetstone.provider.{provider}", "whetstone.provider": provider}
        try:
            self._listener.emit(event, resource, payload)
        except PrefectAway as error:
            # The log has it; nothing rests on the event.
            log.warning("gpus.not_told event=%s error=%s", event, error)
