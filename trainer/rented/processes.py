"""Look after processes as the kernel allows: adopt orphans, end all descendants, hear of a parent's death."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of whatever a descendant leaves behind, so that nothing slips away."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hear_of_parents_end(parent: int) -> bool:
    """Ask for SIGTERM when the parent ends; False when it is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def reap(child: int) -> int | None:
    """Bury every child that has ended; return the exit status of the one asked for, when it was among them.

    Killed by a signal, the status is its negative number.
    """
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = os.waitstatus_to_exitcode(status)


def end_descendants(seconds: float = 10.0) -> bool:
    """Kill every descendant of this process until none is left; False when some would not go in time."""
    deadline = time.monotonic() + seconds
    while True:
        left = psutil.Process().children(recursive=True)
        alive = [one for one in left if _is_alive(one)]
        if not alive:
            return True
        for one in alive:
            with suppress(psutil.Error):
                one.kill()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def run_shell(command: str, environment: Mapping[str, str], seconds: float) -> int | None:
    """Run a shell command; return its exit status, None when it took longer and was killed."""
    try:
        shell = ["/bin/sh", "-c", command]
        return subprocess.run(shell, env=environment, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        return None


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
