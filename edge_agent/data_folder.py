"""Keep the agent's data folder: to one process alone, and free of progress through files that are gone."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import IO

from edge_agent.errors import ConfigError
from edge_agent.files import make_folder
from edge_agent.outbox.outbox import Outbox
from edge_agent.settings.camera import CameraConfig

logger = logging.getLogger("whetstone.edge")
STATUS_FILE = "status.json"
LOCK_FILE = "agent.lock"


def lock_folder(data_dir: Path) -> IO[str]:
    """Keep the data folder to this process; the lock goes with the process, however it ends."""
    try:
        make_folder(data_dir)
        file = (data_dir / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            expected="a data_dir that can be written",
            got=str(error.strerror),
            where=str(data_dir),
            now="Correct data_dir or its owner.",
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(
            expected="a data_dir of its own",
            got="one that a running agent uses",
            where=str(data_dir),
            now="Stop the other agent, or give this one another data_dir.",
        ) from error
    # For people only: on a full disk the lock holds without its number.
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    return file


def forget_old_names(outbox: Outbox, camera: CameraConfig) -> None:
    """Let progress go for files that are gone, so that a folder which is emptied does not fill the outbox.

    An empty or missing folder may be a share that is not mounted yet: then nothing is forgotten.
    """
    kind, _, path = camera.source.partition(":")
    if kind != "folder":
        return
    try:
        there = {entry.name for entry in Path(path).iterdir()}
    except OSError:
        return
    try:
        gone = outbox.progress(camera.source) - there
        if there and gone:
            outbox.forget_progress(camera.source, gone)
    except sqlite3.Error as error:
        # The database is only larger than it need be; the next start forgets them.
        logger.warning("outbox.not-forgotten %s", error)
