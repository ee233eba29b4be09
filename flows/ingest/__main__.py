"""Run ingest as a process: `python -m flows.ingest --folder FOLDER`."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.context import open_context
from flows.errors import FlowsError
from flows.ingest.desk import Desk
from flows.ingest.duties import standard_duties
from flows.ingest.link import MqttLink
from flows.ingest.service import IngestService

log = logging.getLogger("whetstone.flows")
LOCK_FILE = "ingest.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit code 2 says that the installation cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m flows.ingest")
    parser.add_argument("--folder", type=Path, required=True)
    folder: Path = parser.parse_args(arguments).folder.resolve()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with _only_one(folder, stop), open_context(folder) as ctx:
            # Read by prefect when it is first imported, which is when the first event is sent.
            os.environ.setdefault("PREFECT_API_URL", ctx.settings.prefect.api_url)
            link = MqttLink(ctx.settings.broker, folder)
            IngestService(Desk(ctx, link), link, standard_duties(ctx.settings, link)).run(stop)
    except FlowsError as error:
        log.error("ingest.cannot_start %s", error)
        return 2
    return 0


@contextmanager
def _only_one(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Wait until no other ingest works in this folder: sidecars are read and written back."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as file:
        waited = False
        while not stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    log.warning("ingest.waits another ingest works in %s", folder)
                waited = True
                stop.wait(0.5)
        yield


if __name__ == "__main__":
    sys.exit(main())
