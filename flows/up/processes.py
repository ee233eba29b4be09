"""Start a child that cannot outlive its parent, write its output to a log that cannot grow for ever, end it.

Also names processes so that they cannot be mistaken: a process id alone is used again by the kernel,
so it is always kept with the moment the process started.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
LOG_BYTES = 10 * 1024 * 1024
LOGS_KEPT = 3


@dataclass(frozen=True, slots=True)
class ProcessName:
    """Name one process of this boot: its id and its start in clock ticks since boot."""

    pid: int
    start_ticks: int


def name_of(pid: int) -> ProcessName | None:
    """Return the full name of a process, None when there is none or it has ended and waits to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else ProcessName(pid, int(fields[19]))


def is_alive(name: ProcessName) -> bool:
    """Tell whether exactly this process still runs."""
    return name_of(name.pid) == name


def end(name: ProcessName, number: int = signal.SIGKILL) -> bool:
    """Send a signal to exactly this process; return False when it is gone."""
    if not is_alive(name):
        return False
    try:
        os.kill(name.pid, number)
    except ProcessLookupError:
        return False
    return True


def start_bound(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    folder: Path,
    death_signal: int = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a child that gets `death_signal` when this process dies, however it dies.

    Raises:
        OSError: the program could not be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=folder,
            preexec_fn=_bind_to_parent(death_signal),  # noqa: PLW1509 - the supervisor has one thread
        )


def _bind_to_parent(number: int) -> Callable[[], None]:
    library = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def bind() -> None:
        library.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            # The parent died before the kernel knew that it should tell us.
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


def rotate(log: Path, *, limit: int = LOG_BYTES, kept: int = LOGS_KEPT) -> bool:
    """Copy a log that passed `limit` bytes aside and empty it; its writer appends, so it need not know."""
    try:
        if log.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return True
