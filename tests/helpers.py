"""Help tests to wait with deadlines, find free ports, and ask for real parts.

A part that is missing skips the test with the line that would install it; in CI it fails, since
there nothing may be skipped silently.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, polling; fail with `what` when the deadline passes."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def own_sleep(patch: pytest.MonkeyPatch, nap: Callable[[float], None]) -> None:
    """Let this thread nap in place of sleeping; other threads (servers of other tests) sleep as ever."""
    mine, real = threading.get_ident(), time.sleep

    def sleep(seconds: float) -> None:
        (nap if threading.get_ident() == mine else real)(seconds)

    patch.setattr(time, "sleep", sleep)


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(what: str, remedy: str) -> None:
    """Skip the test for want of a real part, or fail where nothing may be skipped."""
    message = f"{what} is not here: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def shared_data(name: str) -> Path:
    """Return a file or folder of real test data (`data/deeppcb`, `models/deeppcb-base.pt`)."""
    path = ROOT.parent / "shared" / name
    if not path.exists():
        missing(f"test data {name}", f"put it at {path.parent}")
    return path


def program(name: str, remedy: str) -> str:
    """Return the path of a real server program, also when it lies in a system folder."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing(f"program {name}", remedy)
    return str(found)
