"""Tell others what runs: `<folder>/up.json`, written by the supervisor at every change, for its owner alone.

The file is information; what proves that a supervisor lives is the lock on `<folder>/up.lock`, which the
kernel frees however the supervisor ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.files import write_file
from flows.up.errors import AlreadyRunning, NotRunning

FILE_NAME = "up.json"
LOCK_NAME = "up.lock"


class ServiceState(BaseModel):
    """Hold what is known of one service's process."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: str
    pid: int = 0
    start_ticks: int = 0
    restarts: int = 0


class UpState(BaseModel):
    """Hold what the supervisor of a folder runs and where."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    start_ticks: int
    ready: bool = False
    ports: dict[str, int] = Field(default_factory=dict)
    urls: dict[str, str] = Field(default_factory=dict)
    services: dict[str, ServiceState] = Field(default_factory=dict)


def write_state(folder: Path, state: UpState) -> None:
    """Write the state so that a reader sees a whole one."""
    write_file(folder / FILE_NAME, state.model_dump_json(indent=1).encode(), mode=0o600)


def read_state(folder: Path) -> UpState | None:
    """Return the last state written, or None when there is none; its writer may be gone."""
    try:
        return UpState.model_validate_json((folder / FILE_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def running_state(folder: Path) -> UpState:
    """Return the state of a folder whose supervisor lives.

    Raises:
        NotRunning: no supervisor holds the folder.
    """
    state = read_state(folder)
    if state is None or not is_held(folder):
        raise NotRunning(
            expected="running services",
            got="no supervisor",
            where=str(folder),
            now=f"Start them with 'whetstone up --folder {folder}'.",
        )
    return state


def is_held(folder: Path) -> bool:
    """Tell whether a supervisor holds the folder now."""
    try:
        handle = os.open(folder / LOCK_NAME, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder for the one supervisor it may have.

    Raises:
        AlreadyRunning: another one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                expected="a folder without a supervisor",
                got="another 'whetstone up' holds it",
                where=str(folder),
                now="Use 'whetstone status', or stop the other one first.",
            ) from None
        yield
    finally:
        os.close(handle)
