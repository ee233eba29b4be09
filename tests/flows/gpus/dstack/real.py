"""Run dstack's real server on loopback, with no cloud: RunPod as its backend, with a key that is none.

dstack asks RunPod whether a key is good before it keeps one, so the backend is written into its database as it
would be after that. Offers come from the catalogue then; a launch fails where RunPod would be asked, at a proxy
that is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tests.flows.gpus.dstack.catalogue import Catalogue
from tests.helpers import ROOT, free_port, missing, wait_until

TOKEN = "1d7c5a2e-admin-t0ken"
COMES_UP = 120.0
"""Seconds the server may take: it makes its database in a hundred steps, on a machine that may be busy."""


@dataclass(frozen=True, slots=True)
class RealDstack:
    """Hold a server that runs."""

    url: str
    folder: Path

    def ask(self, path: str, body: object, token: str = TOKEN) -> tuple[int, Any]:
        """Return status and body of an answer."""
        reply = urllib3.request(
            "POST", f"{self.url}/api/{path}", json=body, timeout=30.0, retries=False,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        return int(reply.status), reply.json()

    def make_user(self, name: str, role: str) -> str:
        """Return the token of a new member of the project."""
        assert self.ask("users/create", {"username": name, "global_role": "user"})[0] == 200
        member = {"username": name, "project_role": role}
        assert self.ask("projects/main/add_members", {"members": [member]})[0] == 200
        return str(self.ask("users/get_user", {"username": name})[1]["creds"]["token"])


@contextmanager
def real_dstack(folder: Path, *, works: bool) -> Iterator[RealDstack]:
    """Start a server whose prices are `Catalogue`'s, and stop it afterwards.

    One that does not work answers and keeps everything as it was told: what is submitted stays so, and no test
    has to be faster than it.
    """
    program = ROOT / ".engines" / "dstack" / "bin" / "dstack"
    if not program.is_file():
        missing("dstack's server", "run scripts/engines.sh dstack")
    lock = hashlib.sha256((ROOT / "deploy" / "engines" / "dstack.txt").read_bytes()).hexdigest()[:16]
    template = ROOT / ".engines" / "dstack" / f"empty-database-{lock}.db"
    database = folder / "server" / "data" / "sqlite.db"
    database.parent.mkdir(parents=True)
    if template.is_file():
        shutil.copy(template, database)
    with Catalogue() as catalogue, (folder / "server.log").open("ab") as log:
        port = free_port()
        process = subprocess.Popen(
            [str(program), "server", "--host", "127.0.0.1", "--port", str(port), "--no"],
            env=_environment(folder, catalogue, works=works), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            server = RealDstack(f"http://127.0.0.1:{port}", folder)
            wait_until(lambda: process.poll() is not None or _is_up(server), COMES_UP, "dstack's server")
            assert process.poll() is None, (folder / "server.log").read_text(errors="replace")[-2000:]
            _keep(database, template)
            _add_backend(database)
            yield server
        finally:
            process.kill()  # told to end it sleeps for three seconds first, and nothing of it is kept
            process.wait(20.0)


def _environment(folder: Path, catalogue: Catalogue, *, works: bool) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
    return {
        **kept,
        "HOME": str(folder),
        "DSTACK_SERVER_DIR": str(folder / "server"),
        "DSTACK_SERVER_ADMIN_TOKEN": TOKEN,
        "GPUHUNT_CATALOG_URL": catalogue.url,
        # No seller is asked anything, not even whether the key is good.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        **({} if works else {"DSTACK_SERVER_BACKGROUND_PROCESSING_DISABLED": "1"}),
    }


def _is_up(server: RealDstack) -> bool:
    try:
        return server.ask("server/get_info", {})[0] == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def _keep(database: Path, template: Path) -> None:
    """Keep the database that was just made: making it takes most of the server's start."""
    if template.is_file():
        return
    half = template.with_name(f"{template.name}.{os.getpid()}")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(half)) as target:
        source.backup(target)
    half.replace(template)


def _add_backend(database: Path) -> None:
    key = json.dumps({"type": "api_key", "api_key": "no-key"})
    with closing(sqlite3.connect(database, timeout=30.0)) as db, db:
        (project,) = db.execute("SELECT id FROM projects WHERE name = 'main'").fetchone()
        db.execute(
            "INSERT INTO backends (id, project_id, type, config, auth) VALUES (?, ?, 'RUNPOD', ?, ?)",
            (uuid.uuid4().hex, project, json.dumps({"type": "runpod"}), f"enc:identity:noname:{key}"),
        )
