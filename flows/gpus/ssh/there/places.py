"""Know where things lie on a host, and which machines of anybody's live there.

<folder>/busy.lock                     held as long as a trainer of any installation lives
<folder>/launch.lock                   held during one launch
<folder>/machines/<tag>/machine.json   the session, written by its first process before its first step
<folder>/machines/<tag>/ended.json     how it ended, once it has
<folder>/machines/<tag>/trainer.log    set-up and training
<folder>/sources/<hash>/               our own packages
<folder>/environments/<hash>/          what they need, made once
<folder>/work/                         the trainer's folder, kept over runs: data, and each run's own
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.files import write_file
from flows.gpus import sessions
from flows.up import processes
from flows.up.processes import ProcessName

DOCKER_SECONDS = 30.0
REST_SECONDS = 5.0
"""What is left when the first process has gone or would not go has had its time."""


class Refused(Exception):
    """Tell that this host will not start the machine."""


@dataclass(frozen=True)
class Place:
    """Be the state folder of one machine, named by its tag."""

    folder: Path
    tag: str

    @property
    def path(self) -> Path:
        """Return the folder."""
        return self.folder / "machines" / self.tag

    def read(self, name: str) -> dict[str, Any] | None:
        """Return one of its files, None where there is none."""
        try:
            content = json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write one of its files, whole or not at all."""
        write_file(self.path / f"{name}.json", json.dumps(content).encode(), mode=0o600)

    def write_once(self, name: str, content: dict[str, Any]) -> None:
        """Write one of its files where there is none yet: the first word on how it ended counts."""
        if self.read(name) is None:
            self.write(name, content)

    def session(self, name: str = "machine") -> sessions.Session | None:
        """Return the session that a file of it names."""
        return sessions.read(self.path / f"{name}.json")

    def container(self) -> str:
        """Return the name of its container, "" where it has none."""
        made = self.read("machine")
        return self.tag if made and made.get("runtime") == "docker" else ""


def all_places(folder: Path) -> Iterator[Place]:
    """Yield every machine whose folder is kept, anybody's."""
    for path in sorted((folder / "machines").glob("*/machine.json")):
        yield Place(folder, path.parent.name)


def is_running(place: Place) -> bool:
    """Tell whether the trainer itself lives: its first process or its container."""
    if sessions.is_alive(place.session()):
        return True
    return bool(place.container()) and place.container() in containers()


def living(folder: Path) -> list[Place]:
    """Return every machine of which any process still runs, also what a dead trainer left behind."""
    # One whose guard has seen it to its end is not looked for again: a host keeps many of them.
    found = [one for one in all_places(folder) if not (one.read("guard") or {}).get("done")]
    running = containers() if any(one.container() for one in found) else frozenset()
    return [one for one in found if _has_members(one) or one.container() in running]


def end(place: Place, seconds: float) -> None:
    """End the container and every process of a machine."""
    session = place.session()
    if session is not None:
        # The first process is asked alone and ends the others in order; Docker's client asks the container.
        _ask_first(session, seconds)
        sessions.end_all(session, REST_SECONDS)
    if place.container() and place.container() in containers():
        _docker("rm", "--force", place.container())


def containers() -> frozenset[str]:
    """Return the names of the containers that run here.

    Raises:
        OSError: Docker does not answer, so nobody knows.
    """
    return frozenset(_docker("ps", "--format", "{{.Names}}").split())


def _ask_first(session: sessions.Session, seconds: float) -> None:
    first = ProcessName(session.pid, session.start_ticks)
    if not sessions.is_alive(session) or not processes.end(first, signal.SIGTERM):
        return
    deadline = time.monotonic() + seconds
    while sessions.is_alive(session) and time.monotonic() < deadline:
        time.sleep(0.05)


def _has_members(place: Place) -> bool:
    session = place.session()
    return session is not None and bool(sessions.members(session))


def _docker(*arguments: str) -> str:
    try:
        asked = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=DOCKER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"docker {arguments[0]} did not answer within {DOCKER_SECONDS:.0f} s") from error
    if asked.returncode != 0:
        raise OSError(f"docker {arguments[0]}: {asked.stderr.strip()[-200:]}")
    return asked.stdout
