"""Switch the machine off from within, again and again until it goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from trainer.rented.processes import run_shell

_log = logging.getLogger("whetstone.rented")
ATTEMPTS = 10
PAUSE_SECONDS = 15.0
COMMAND_SECONDS = 60.0


def power_off(command: str, environment: Mapping[str, str], pause: float = PAUSE_SECONDS) -> bool:
    """Run the command that ends this machine; True when it was taken, or none is wanted.

    The command may hold a key, so it is never logged.
    """
    if not command:
        _log.info("rented.no_power_off reason=the machine ends with its first process")
        return True
    for attempt in range(1, ATTEMPTS + 1):
        status = run_shell(command, environment, COMMAND_SECONDS)
        if status == 0:
            _log.info("rented.powered_off attempt=%s", attempt)
            return True
        _log.error("rented.not_powered_off attempt=%s status=%s", attempt, status)
        if attempt < ATTEMPTS:
            time.sleep(pause)
    return False
