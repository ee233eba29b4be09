"""Be the trainer's command line: `run --ticket FILE --work DIR`, and `rented` on a machine that was rented.

Exit status: 0 done, 1 failed for good (reported to the store), 2 worth another start. SIGTERM, the warning a
machine gets before it is taken away, ends the training and sends what waits to be sent; a second one ends it
at once.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.rented import entry
from trainer.statuses import AGAIN, DONE, FAILED

__all__ = ["AGAIN", "DONE", "FAILED", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Do one training run.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train what a ticket asks for")
    run.add_argument("--ticket", type=Path, required=True, help="file with the run's ticket; keep it secret")
    run.add_argument(
        "--work", type=Path, required=True, help="folder to work in; the same one continues a run"
    )
    run.add_argument(
        "--cache", type=Path, help="folder for fetched data, shared by runs; by default in --work"
    )
    run.add_argument("--cache-gib", type=float, default=50.0, help="what the cache may take, in GiB")
    commands.add_parser("rented", help="train what WHETSTONE_CLAIM gives a ticket for, then power off")
    chosen = parser.parse_args(arguments)
    if chosen.command == "rented":
        entry.forget_the_claim()
    # Not before: whoever forgets the claim does so at once, and guards with little memory.
    from trainer.attempt import attempt
    from trainer.cache import GIB, ObjectCache
    from trainer.run import RunOrder

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    cache = ObjectCache(chosen.cache or chosen.work / "cache", round(chosen.cache_gib * GIB))
    with _warned() as stop:
        return attempt(RunOrder(chosen.ticket, chosen.work, stop=stop, cache=cache))


@contextmanager
def _warned() -> Iterator[threading.Event]:
    """Yield an event that the first SIGTERM sets."""
    stop = threading.Event()

    def warn(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stop.set()

    before = signal.signal(signal.SIGTERM, warn)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
