"""Be the trainer's command line: `python -m trainer run --ticket FILE --work DIR`.

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

from fleet_contracts.errors import ContractError
from trainer.cache import GIB, ObjectCache
from trainer.errors import BackendFailed, TrainerError, TransferFailed
from trainer.run import run_ticket

DONE, FAILED, AGAIN = 0, 1, 2


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
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log = logging.getLogger("whetstone.trainer")
    try:
        cache = ObjectCache(chosen.cache or chosen.work / "cache", round(chosen.cache_gib * GIB))
        with _warned() as stop:
            candidate = run_ticket(chosen.ticket, chosen.work, stop=stop, cache=cache)
    except TransferFailed as error:
        log.error("trainer.failed %s; %s", error, error.diagnostics())
        return AGAIN
    except (TrainerError, ContractError) as error:
        log.error("trainer.failed %s; %s", error, error.diagnostics())
        return AGAIN if isinstance(error, BackendFailed) and error.resumable else FAILED
    log.info("trainer.finished candidate=%s model=%s", candidate.candidate_id, candidate.model_id)
    return DONE


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
