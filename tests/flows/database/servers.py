"""Start a real PostgreSQL for tests and stop it again."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.helpers import free_port, missing, wait_until

SERVER_USER = "postgres"


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server in a folder of its own; give its URL."""
    programs = _programs()
    # Not under pytest's folder: PostgreSQL refuses to run as root, and its user could not enter there.
    folder = Path(tempfile.mkdtemp(prefix="whetstone-postgres-"))
    user = SERVER_USER if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    data, port = folder / "data", free_port()
    try:
        made = [
            programs / "initdb",
            "--pgdata",
            data,
            "--username",
            "whetstone",
            "--auth",
            "trust",
            "--no-sync",
        ]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        command = [programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder)
        try:
            ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 30, "PostgreSQL to answer")
            yield f"postgresql://whetstone@127.0.0.1:{port}/postgres"
        finally:
            server.kill()
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing("PostgreSQL", "apt-get install postgresql")
    return found[-1].parent
