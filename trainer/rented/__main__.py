"""Be the guard: the new beginning of `python -m trainer rented`, with the claim behind a pipe."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from fleet_contracts.renting import POWER_OFF
from trainer.errors import OrdersRefused
from trainer.rented.clock import ticks
from trainer.rented.entry import take_claim
from trainer.rented.guard import Guard
from trainer.rented.orders import Orders, read_orders
from trainer.rented.power import power_off
from trainer.rented.processes import end_descendants
from trainer.statuses import FAILED

_log = logging.getLogger("whetstone.rented")


def main() -> int:
    """Guard this machine; one whose orders make no sense is switched off all the same."""
    command = os.environ.get(POWER_OFF, "")
    try:
        claim = take_claim()
        orders = read_orders(os.environ)
        _log_to(orders)
        os.environ.pop(POWER_OFF, None)
        return Guard(orders, claim, _began()).run()
    except OrdersRefused as error:
        logging.basicConfig(level=logging.INFO)
        _log.error("rented.refused %s", error)
    except Exception:  # noqa: BLE001 - the outer edge of the process: nobody else would switch this machine off
        logging.basicConfig(level=logging.INFO, force=True)
        _log.exception("rented.failed")
    end_descendants()
    power_off(command, dict(os.environ))
    return FAILED


def _log_to(orders: Orders) -> None:
    """Write into the trainer's own log, which is copied to our output and sent to the bucket at the end."""
    orders.place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for stale in (orders.clock, orders.ticket):
        stale.unlink(missing_ok=True)
    logging.basicConfig(
        filename=orders.log, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )


def _began() -> float:
    """Return when this process started, in `ticks`: a new beginning keeps that."""
    started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    began, now = started / os.sysconf("SC_CLK_TCK"), ticks()
    return began if 0.0 <= now - began < 3600.0 else now


if __name__ == "__main__":
    sys.exit(main())
