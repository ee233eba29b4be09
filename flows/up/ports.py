"""Choose the ports of the embedded services once and keep them, because boxes and URLs remember them.

Ports are taken below the kernel's range for outgoing connections, so that no client socket sits on
one while the services are down.
"""

from __future__ import annotations

import json
import random
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from flows.files import write_file
from flows.up.errors import UpError

FILE_NAME = "ports.json"
LOWEST, HIGHEST = 20000, 31999
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """Hold the loopback port of each embedded service."""

    store: int
    releases: int
    broker: int
    prefect: int


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        # Servers set this too: a closed connection in TIME_WAIT does not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def load_ports(folder: Path) -> Ports | None:
    """Return the ports this folder was given before, or None when there are none to be read."""
    try:
        content = json.loads((folder / FILE_NAME).read_text())
        return Ports(**{field.name: int(content[field.name]) for field in fields(Ports)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def choose_ports(folder: Path, *, seed: int | None = None) -> Ports:
    """Return this folder's ports: the ones it had, each replaced only when somebody else listens on it.

    Raises:
        UpError: no free port was found.
    """
    before = load_ports(folder)
    draw = random.Random(seed)  # noqa: S311 - a port is no secret
    taken: set[int] = set()
    chosen: dict[str, int] = {}
    for field in fields(Ports):
        wanted = getattr(before, field.name) if before else 0
        port = wanted if wanted and is_free(wanted) else _free_port(draw, taken)
        taken.add(port)
        chosen[field.name] = port
    ports = Ports(**chosen)
    if ports != before:
        write_file(folder / FILE_NAME, json.dumps(asdict(ports), indent=1).encode())
    return ports


def _free_port(draw: random.Random, taken: set[int]) -> int:
    for _ in range(1000):
        port = draw.randint(LOWEST, HIGHEST)
        if port not in taken and is_free(port):
            return port
    raise UpError(
        expected=f"a free port between {LOWEST} and {HIGHEST}",
        got="none after 1000 tries",
        where=HOST,
        now="Stop what listens there.",
    )
