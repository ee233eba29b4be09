"""Be the trainer on a rented machine: `python -m trainer.rented.work`, told by the guard on standard input.

(1) Ask the kernel to tell of the guard's end; forget its orders' place in any environment.
(2) Fetch the ticket by the claim, and leave the store's time for the guard.
(3) Do the run: documents, check of this machine, data, training, results.
(4) Where the guard was killed: end what runs, send the log's end and switch the machine off in its place.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from fleet_contracts.base import encode
from fleet_contracts.errors import ContractError
from trainer.attempt import attempt, status_of
from trainer.beginning import Beginning
from trainer.cache import ObjectCache
from trainer.errors import TrainerError, TransferFailed
from trainer.fitness.check import Check
from trainer.rented import processes
from trainer.rented.claim import Asking, fetch_ticket
from trainer.rented.clock import write_note
from trainer.rented.guard import say_farewell
from trainer.rented.orders import Handover, unpack
from trainer.rented.power import power_off
from trainer.rented.rules import GRACE_SECONDS
from trainer.run import RunOrder
from trainer.wire import HttpWire

_log = logging.getLogger("whetstone.rented")
_LOOK_SECONDS = 1.0


def main() -> int:
    """Do the run and return its exit status."""
    told = unpack(sys.stdin.buffer.read())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # (1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not processes.hear_of_parents_end(told.guard):
        stop.set()
    threading.Thread(target=_outlive_the_guard, args=(told, stop), name="heir", daemon=True).start()
    status = _work(told, stop)
    # (4)
    if os.getppid() != told.guard:
        _end_the_machine(told)
    return status


def _work(told: Handover, stop: threading.Event) -> int:
    orders = told.orders
    beginning = Beginning(told.began, orders.lease)
    beginning.mark("boot")
    try:
        # (2)
        asking = Asking(HttpWire(), partial(write_note, orders.clock), partial(_pause, stop))
        ticket = fetch_ticket(told.claim, asking)
        _keep(orders.ticket, encode(ticket))
        beginning.mark("claim")
    except (TrainerError, ContractError) as error:
        return status_of(error)
    # (3)
    folder = orders.work / "runs" / ticket.run_id
    cache = ObjectCache(orders.work / "cache")
    return attempt(RunOrder(orders.ticket, folder, None, stop, cache, Check(thorough=True), beginning))


def _keep(file: Path, content: bytes) -> None:
    """Write a secret for its owner alone."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)


def _pause(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise TransferFailed(expected="the run's ticket", got="a request to stop", where="claim")


def _outlive_the_guard(told: Handover, stop: threading.Event) -> None:
    """End the machine when the guard is gone and the run does not end by itself within the grace."""
    while os.getppid() == told.guard:
        if threading.Event().wait(_LOOK_SECONDS):
            return
    _log.error("rented.guard_gone now=%s", "the run ends and the machine with it")
    stop.set()
    threading.Event().wait(GRACE_SECONDS)
    _end_the_machine(told)
    os._exit(1)


def _end_the_machine(told: Handover) -> None:
    processes.end_descendants()
    say_farewell(told.orders)
    power_off(told.orders.power_off, dict(os.environ))


if __name__ == "__main__":
    sys.exit(main())
