"""Give a run's machine back, or leave it to the reaper where its seller does not take it."""

from __future__ import annotations

import logging
import time

from flows.gpus.errors import ProviderAway, TokenRefused
from flows.gpus.tenancy import Tenant

log = logging.getLogger("whetstone.retrain")

LEFT_AFTER = 300.0
"""Seconds a machine that is not needed any more is tried to be ended before it is left to the reaper."""
_MOST_REASON = 500


class Leaving:
    """End what a run has, again and again for a while.

    A result is collected and a failed run closed though the seller is away for hours: the lease is called off
    then, so that the reaper ends the machine as soon as it can, and lives until that was confirmed.
    """

    def __init__(self, tenant: Tenant, run_id: str) -> None:
        self._tenant = tenant
        self._run_id = run_id
        self._since: float | None = None

    def leave(self, reason: str) -> None:
        """End the run's machine, or call its lease off.

        Raises:
            ProviderAway: its seller does not answer, or says that it still runs; not for longer than minutes.
        """
        try:
            self._tenant.end(reason[:_MOST_REASON])
        except (ProviderAway, TokenRefused) as error:
            self._since = self._since or time.monotonic()
            tried = time.monotonic() - self._since
            # A token that is refused gets no better by asking.
            if isinstance(error, ProviderAway) and tried < LEFT_AFTER:
                raise
            self._tenant.call_off(reason[:_MOST_REASON])
            log.error("retrain.machine_left_to_reaper run=%s error=%s", self._run_id, error)
        self._since = None
