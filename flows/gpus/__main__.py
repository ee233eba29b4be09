"""Run the reaper on its own: `python -m flows.gpus reap --folder F [--once]`."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

from flows.context import database_url
from flows.database import Database
from flows.gpus.leases import LeaseBook
from flows.gpus.providers import providers
from flows.gpus.reaper import reap, reap_until
from flows.settings import load_settings


def main() -> None:
    """Reap until told to stop."""
    parser = argparse.ArgumentParser(description="End machines that no live lease owns.")
    parser.add_argument("command", choices=["reap"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--once", action="store_true")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    folder = given.folder.resolve()
    stop = threading.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: stop.set())
    settings = load_settings(folder)
    database = Database.open(database_url(folder, settings))
    try:
        book, known = LeaseBook(database), tuple(providers(folder, settings).values())
        reap(book, known)
        if not given.once:
            reap_until(stop, book, known)
    finally:
        database.close()


if __name__ == "__main__":
    main()
