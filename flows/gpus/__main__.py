"""Run the reaper on its own: `python -m flows.gpus reap --folder F [--once]`."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

from flows.context import database_url
from flows.database import Database
from flows.errors import FlowsError
from flows.gpus.lenders import Lenders
from flows.gpus.prefect_api import PrefectApi
from flows.gpus.rounds import Rounds, Watch
from flows.gpus.telling import Teller
from flows.retrain.cancelled import At, Canceller
from flows.settings import Settings, load_settings
from flows.store.base import ObjectStore

log = logging.getLogger("whetstone.gpus")


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
        watch = watch_of(folder, settings, database)
        if given.once:
            Rounds(watch, beats=False).once()
        else:
            Rounds(watch).run(stop)
    finally:
        database.close()


def watch_of(folder: Path, settings: Settings, database: Database) -> Watch:
    """Return what a reaper of this installation looks after, and whom it tells."""
    prefect = PrefectApi(settings.prefect.api_url)
    at = At(database, _store(folder, settings))
    return Watch(
        lenders=Lenders(folder),
        database=database,
        heard=Teller(prefect).heard,
        besides=Canceller(at, prefect),
    )


def _store(folder: Path, settings: Settings) -> ObjectStore | None:
    """Return the object store, None on a host that has no key for it: a reaper needs the database alone."""
    from flows.store.minio_store import open_store

    try:
        return open_store(folder, settings.store)
    except FlowsError as error:
        log.info("gpus.no_store folder=%s error=%s", folder, error)
        return None


if __name__ == "__main__":
    main()
