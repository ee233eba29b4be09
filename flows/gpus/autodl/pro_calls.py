"""Make the calls of AutoDL's container instances Pro, and keep of their answers what is needed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from flows.gpus.autodl.client import AutodlClient, named
from flows.gpus.autodl.errors import CallRefused, NoSuchRecord

log = logging.getLogger("whetstone.gpus")

ROOT = "/api/v1/dev/instance/pro"


class ProCalls:
    """Speak of instances by name. Every call may raise `ProviderAway` and `TokenRefused`."""

    def __init__(self, client: AutodlClient) -> None:
        self._client = client

    def create(self, body: Mapping[str, Any]) -> str:
        """Create an instance, which starts at once, and return its name.

        Raises:
            CallRefused: AutoDL will not, for want of stock or whatever its message says.
            ProviderAway: its answer names none, though one may have been made.
        """
        return named(self._client.send("POST", f"{ROOT}/create", body), f"{ROOT}/create")

    def word(self, machine: str) -> str:
        """Return AutoDL's word for how an instance is, "" when it knows none by that name."""
        try:
            return str(self._client.get(f"{ROOT}/status", {"instance_uuid": machine}))
        except NoSuchRecord:
            return ""

    def price(self, machine: str) -> int | None:
        """Return thousandths of a yuan an hour, None while none is told.

        The answer holds the instance's passwords too, which are dropped here.
        """
        try:
            snapshot = self._client.get(f"{ROOT}/snapshot", {"instance_uuid": machine})
        except (CallRefused, NoSuchRecord):
            return None
        price = snapshot.get("payg_price") if isinstance(snapshot, dict) else None
        # A price of nothing is one that is not known yet.
        return int(price) if isinstance(price, int | float) and math.isfinite(price) and price > 0 else None

    def order(self, what: str, machine: str) -> None:
        """Order something; a no is no end of it: another process of ours may have ordered it before."""
        try:
            self._client.send("POST", f"{ROOT}/{what}", {"instance_uuid": machine})
        except (CallRefused, NoSuchRecord) as error:
            log.info("gpus.autodl_refused order=%s machine=%s said=%s", what, machine, error.got)

    def rows(self) -> list[dict[str, Any]]:
        """Return every instance of the account; a released one is in no list."""
        return list(self._client.pages(f"{ROOT}/list", {}))
