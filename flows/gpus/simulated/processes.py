"""Start a machine's host, detached, and give its guest what a rented machine has and nothing else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import flows
from fleet_contracts.renting import WORK
from flows.gpus.simulated.host import Hosting
from trainer.memory.simulator import ENVIRONMENT as SIMULATED_CARD

_log = logging.getLogger("whetstone.gpus")
_PACKAGES = str(Path(flows.__file__).resolve().parent.parent)
_OF_ANY_SYSTEM = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH")


def start_host(order: Hosting, log: Path) -> None:
    """Start the host of a machine and give it its order; it outlives whoever calls."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.gpus.simulated.host"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=log.parent,
            env={**_system(os.environ), "PYTHONPATH": _PACKAGES},
        )
    assert child.stdin is not None
    try:
        with child.stdin as told:
            told.write(order.model_dump_json().encode())
    except BrokenPipeError:
        _log.warning("simulated.host_died name=%s", order.name)  # its machine never comes up


def guest_environment(disk: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment on a machine: its system's, its image's, what it was started with.

    The simulated card, where this process has one, is the machine's hardware and no setting of ours.
    """
    hardware = {SIMULATED_CARD: os.environ[SIMULATED_CARD]} if SIMULATED_CARD in os.environ else {}
    return {
        **_system(os.environ),
        "HOME": str(disk),
        "TMPDIR": str(disk / "tmp"),
        WORK: str(disk / "work"),
        "PYTHONPATH": _PACKAGES,
        "PYTHONUNBUFFERED": "1",
        **hardware,
        **given,
    }


def guest_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return the image's command with the image's interpreter, which is this one."""
    return (sys.executable, *command[1:]) if command[0] == "python" else command


def _system(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in _OF_ANY_SYSTEM if name in environment}
