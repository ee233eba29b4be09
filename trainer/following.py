"""Follow a running child: its events, its memory, and what its death leaves as evidence."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trainer.backend_job import BackendEvent
from trainer.memory import HostMemory, MemoryGroup, Room, Trouble, recognise_text
from trainer.memory.trouble import KILLED, SHARED_MEMORY
from trainer.standing_still import Stillness

_log = logging.getLogger("whetstone.trainer")
OnEvent = Callable[[BackendEvent], None]
_POLL_SECONDS = 0.1
_SAMPLE_SECONDS = 1.0
_NEAR_SHARE = 0.95
_STACKS_SECONDS = 2.0
"""For a child to write down where each of its threads stands."""
_LOG_TAIL = 4000
_DEATHS_OF_WANT = {signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS}
"""How a process ends whose memory ran out where no error could be raised."""


class Stop(Protocol):
    """Be asked whether work should end; a `threading.Event` is one."""

    def is_set(self) -> bool:
        """Say whether to end."""


class EventTail:
    """Read whole new lines of the event file; what earlier starts wrote is skipped (see `said_so_far`)."""

    def __init__(self, path: Path, on_event: OnEvent | None) -> None:
        _end_torn_line(path)
        self._path = path
        self._on_event = on_event
        self._offset = path.stat().st_size if path.is_file() else 0

    def read(self) -> None:
        """Tell about every line that is whole by now."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        if self._on_event is not None:
            for event in _events(whole):
                self._on_event(event)


def said_so_far(path: Path) -> list[BackendEvent]:
    """Return every event in a file of events, oldest first; of a missing file none."""
    return list(_events(path.read_bytes())) if path.is_file() else []


def _events(content: bytes) -> Iterator[BackendEvent]:
    """Yield the events of whole lines; a line that a death or a full disk tore is left out."""
    for line in filter(bytes.strip, content.splitlines()):
        try:
            yield BackendEvent.from_line(line.decode())
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("trainer.event_unreadable bytes=%s error=%s", len(line), error)


def _end_torn_line(path: Path) -> None:
    """End what a killed child left of a line, so that the next child's first event is no part of it."""
    if not path.is_file():
        return
    with path.open("r+b") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":
            stream.write(b"\n")


class Vigil:
    """Watch a child's memory from outside, for the case that it cannot tell of its end itself.

    Args:
        pid: the child.
        group: its memory cgroup; None finds it.
    """

    def __init__(self, pid: int, group: MemoryGroup | None = None) -> None:
        self._memory = HostMemory(pid)
        self._group = group or MemoryGroup.of(pid)
        self._kills = self._group.kills() if self._group else None
        self._due = 0.0
        self._used = 0
        self._limit = 0

    def look(self) -> None:
        """Take a sample where one is due."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _SAMPLE_SECONDS
        used, limit = self._memory.standing()
        if used:  # 0: it is gone already
            self._used, self._limit = used, limit

    def trouble(self, exit_code: int, log: str) -> Trouble | None:
        """Return how memory ended a child that said nothing, or None where nothing points to memory.

        Args:
            exit_code: negative for a signal.
            log: the end of what it wrote.
        """
        near = self._used > self._limit * _NEAR_SHARE > 0
        told = recognise_text(log, Room(host_short=near))
        cause = KILLED if exit_code == -signal.SIGKILL else ""
        if exit_code == -signal.SIGBUS:
            cause = SHARED_MEMORY
        killed = self._killed_for_memory()
        by_signal = -exit_code in _DEATHS_OF_WANT
        if not (
            killed
            or (by_signal and (near or told or cause == SHARED_MEMORY))
            or (told and told.kind == "host")
        ):
            return None
        return Trouble(
            kind="host", seen_bytes=self._used, limit_bytes=self._limit_now(),
            cause=(told and told.cause) or cause, asked_bytes=told.asked_bytes if told else 0,
            error=signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}",
            message=log[-500:],
        )  # fmt: skip

    def _limit_now(self) -> int:
        """Return the limit that was nearest; a group's may have been set since the child began."""
        group = self._group.limit() if self._group else None
        return min(filter(None, (self._limit, group)), default=0)

    def _killed_for_memory(self) -> bool:
        now = self._group.kills() if self._group else None
        return now is not None and self._kills is not None and now > self._kills


def follow(
    child: subprocess.Popen[bytes], tail: EventTail, vigil: Vigil, stillness: Stillness, stop: Stop | None
) -> None:
    """Wait for a child's end, telling its events; kill it when asked to stop, or when it stands still."""
    while True:
        try:
            child.wait(_POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            tail.read()
            vigil.look()
        if stop is not None and stop.is_set():
            child.kill()
        elif stillness.is_too_long() and not stillness.was_too_long:
            stillness.was_too_long = True
            _kill_with_stacks(child)


def _kill_with_stacks(child: subprocess.Popen[bytes]) -> None:
    """Kill a child after asking it where it stands; torchrun's process cannot say, and ends by that."""
    child.send_signal(signal.SIGUSR1)
    with suppress(subprocess.TimeoutExpired):
        child.wait(_STACKS_SECONDS)
    child.kill()


def end_of_log(log: Path, begin: int) -> str:
    """Return the end of what one start wrote into the log; `begin` is where it began."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(begin, log.stat().st_size - _LOG_TAIL))
        return stream.read().decode(errors="replace").strip()
