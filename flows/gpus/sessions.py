"""Find and end every process of a detached trainer: they share its session, whoever adopted them."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from flows.gpus.become import boot_id
from flows.up.processes import ProcessName, name_of
from flows.up.processes import is_alive as process_is_alive


@dataclass(frozen=True, slots=True)
class Session:
    """Name a session by its first process: id, start in clock ticks, boot."""

    pid: int
    start_ticks: int
    boot: str


def read(path: Path) -> Session | None:
    """Return the session a `machine.json` names, None when there is none to be read."""
    try:
        content = json.loads(path.read_text())
        return Session(int(content["pid"]), int(content["start_ticks"]), str(content["boot"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_alive(session: Session | None) -> bool:
    """Tell whether the first process of a session still runs."""
    if session is None or session.boot != boot_id():
        return False
    return process_is_alive(ProcessName(session.pid, session.start_ticks))


def members(session: Session) -> tuple[ProcessName, ...]:
    """Return every living process of a session, also when its first one is gone."""
    if session.boot != boot_id():
        return ()
    first = name_of(session.pid)
    if first is not None and first.start_ticks != session.start_ticks:
        # The number is used again, so nothing of the session it once named is left.
        return ()
    return tuple(
        name for entry in Path("/proc").glob("[0-9]*") if (name := _in_session(entry, session)) is not None
    )


def end_all(session: Session, seconds: float) -> None:
    """Ask every process of a session to end, and kill those that have not after `seconds`."""
    _signal(session, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while members(session):
        if time.monotonic() > deadline:
            _signal(session, signal.SIGKILL)
            deadline = time.monotonic() + seconds
        time.sleep(0.05)


def _signal(session: Session, number: int) -> None:
    for name in members(session):
        try:
            os.kill(name.pid, number)
        except ProcessLookupError:
            continue


def _in_session(entry: Path, session: Session) -> ProcessName | None:
    try:
        text = (entry / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    # The kernel never reuses an id that still names a session; one that started earlier is not ours.
    is_ours = int(fields[3]) == session.pid and int(fields[19]) >= session.start_ticks
    return ProcessName(int(entry.name), int(fields[19])) if is_ours and fields[0] not in "ZX" else None
