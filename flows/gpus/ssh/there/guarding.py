"""Guard a machine from a session of its own: end it at its deadline, and the host's bill after it.

The guard needs nobody: not the connection that started it, not the installation, not the network. It goes by
the time since boot, so that a wrong clock on either side moves no deadline. Should somebody kill it, the next
call of the installation starts another one.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.gpus import sessions
from flows.gpus.become import boot_id
from flows.gpus.ssh.there.places import Place, end, is_running, living
from flows.up.processes import name_of

STOP_SECONDS = 60.0
"""A trainer that is asked to end sends what waits and the end of its log: most of a minute at worst."""
LOOK_SECONDS = 0.2
DOCKER_LOOK_SECONDS = 5.0
END_TRIES = 12


def since_boot() -> float:
    """Return seconds since boot, with those the host slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def detach(log: Path) -> None:
    """Leave the session and the files of whoever started us; what is written goes to a log."""
    os.setsid()
    log.parent.mkdir(parents=True, exist_ok=True)
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)


def my_name() -> dict[str, object]:
    """Return how this process is told from any later one.

    Raises:
        OSError: this system has no /proc.
    """
    me = name_of(os.getpid())
    if me is None:
        raise OSError("this system has no /proc")
    return {"pid": me.pid, "start_ticks": me.start_ticks, "boot": boot_id()}


@dataclass(frozen=True)
class Orders:
    """Say what a guard has to see to: the end in seconds since boot, and how the bill ends after it."""

    until: float
    power_off: str
    linger: float
    """Seconds to wait for another machine before the host is switched off."""


def orders_of(made: dict[str, Any]) -> Orders:
    """Return the orders that a machine's own file holds."""
    return Orders(float(made["until_since_boot"]), str(made["power_off"]), float(made["linger"]))


def take_guard(place: Place) -> int | None:
    """Become the one guard of a machine and return the handle that proves it; None where there is one."""
    lock = os.open(place.path / "guard.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    place.write("guard", my_name())
    return lock


def revive(place: Place) -> None:
    """Start another guard where the machine's own was killed before its work was done."""
    made, guard = place.read("machine"), place.read("guard")
    if made is None or made["boot"] != boot_id() or (guard or {}).get("done"):
        return
    if sessions.is_alive(place.session("guard")) or os.fork() != 0:
        return
    try:
        detach(place.path / "guard.log")
        if take_guard(place) is not None:
            guard_machine(place, orders_of(made), child=0)
    finally:
        os._exit(0)


def guard_machine(place: Place, orders: Orders, child: int) -> None:
    """Wait for a machine's end or deadline, and see to what has to follow; `child` is its process if ours."""
    # (1) the end, or the deadline
    why = _wait(place, orders.until, child)
    late = since_boot() >= orders.until
    place.write_once("ended", {"why": why})
    # (2) what it left behind ends with it
    ended = _end_somehow(place)
    _say(why)
    # (3) the bill
    if orders.power_off:
        _power_off(place, orders.power_off, 0.0 if late else orders.linger)
    place.write("guard", {**my_name(), "done": ended})


def _wait(place: Place, until: float, child: int) -> str:
    looks = DOCKER_LOOK_SECONDS if place.container() else LOOK_SECONDS
    why = "its process is gone"
    while True:
        if child:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                child, why = 0, _exit_of(status)
        if not child and not _may_run(place):
            return why
        left = until - since_boot()
        if left <= 0.0:
            return "its lease ended"
        time.sleep(min(LOOK_SECONDS if child else looks, left))


def _may_run(place: Place) -> bool:
    try:
        return is_running(place)
    except OSError as error:
        # Docker does not answer: the deadline comes all the same.
        _say(str(error))
        return True


def _end_somehow(place: Place) -> bool:
    """End what is left; where that fails for long, the power-off must come all the same."""
    for _ in range(END_TRIES):
        try:
            end(place, STOP_SECONDS)
        except OSError as error:
            _say(str(error))
            time.sleep(DOCKER_LOOK_SECONDS)
        else:
            return True
    return False


def _exit_of(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def _power_off(place: Place, command: str, linger: float) -> None:
    """Switch the host off unless another machine came meanwhile: that one's guard will."""
    until = since_boot() + linger
    while since_boot() < until:
        if living(place.folder):
            _say("another machine runs here: it stays on")
            return
        time.sleep(min(DOCKER_LOOK_SECONDS, max(until - since_boot(), 0.0)))
    _say(f"switching off: {command}")
    asked = subprocess.run(command, shell=True, check=False)  # noqa: S602 - the operator's own line
    _say(f"it ended with {asked.returncode}")


def _say(what: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {what}\n")
    sys.stdout.flush()
