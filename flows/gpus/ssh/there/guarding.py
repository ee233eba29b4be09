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
from contextlib import suppress
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
LEAST_LOOK_SECONDS = 0.02
NAMING_SECONDS = 60.0
"""How long a trainer may take to write its name down where its lease is over by then."""
DOCKER_LOOK_SECONDS = 5.0
END_TRIES = 12


def since_boot() -> float:
    """Return seconds since boot, with those the host slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def detach(log: Path) -> None:
    """Leave the session and the files of whoever started us; what is written goes to a log."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        # A disk that is full or broken must not keep a guard from its work.
        written = os.open(os.devnull, os.O_WRONLY)
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
    if made is not None and made["boot"] == boot_id() and not (guard or {}).get("done"):
        _start_guard(place, orders_of(made))


def end_after_boot(place: Place) -> None:
    """See to the bill of a machine that a reboot took together with its guard: the host stands idle since."""
    made = place.read("machine")
    if made is None or made["boot"] == boot_id() or not made["power_off"]:
        return
    linger = float(made["linger"])
    # The old deadline counted from another boot.
    _start_guard(place, Orders(since_boot() + linger + NAMING_SECONDS, str(made["power_off"]), linger))


def _start_guard(place: Place, orders: Orders) -> None:
    if sessions.is_alive(place.session("guard")) or os.fork() != 0:
        return
    try:
        detach(place.path / "guard.log")
        if take_guard(place) is not None:
            guard_machine(place, orders, child=0)
    finally:
        os._exit(0)


def guard_machine(place: Place, orders: Orders, child: int) -> None:
    """Wait for a machine's end or deadline, and see to what has to follow; `child` is its process if ours."""
    # (1) the end, or the deadline
    why = _wait(place, orders.until, child)
    late = since_boot() >= orders.until
    _note(place, "ended", {"why": why})
    # (2) what it left behind ends with it
    ended = _end_somehow(place)
    _say(why)
    # (3) the bill
    if orders.power_off:
        _power_off(place, orders.power_off, 0.0 if late else orders.linger)
    _note(place, "guard", {**my_name(), "done": ended})


def _note(place: Place, name: str, content: dict[str, Any]) -> None:
    """Write something down if that can be: a full disk must not keep the machine from its end."""
    try:
        if name == "ended":
            place.write_once(name, content)
        else:
            place.write(name, content)
    except OSError as error:
        _say(f"{name} could not be written: {error}")


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
        # A trainer that has not written its name down yet could not be ended, and would go on unguarded.
        is_named = not child or place.session() is not None or left <= -NAMING_SECONDS
        if left <= 0.0 and is_named:
            return "its lease ended"
        time.sleep(max(min(LOOK_SECONDS if child else looks, left), LEAST_LOOK_SECONDS))


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
    """Switch the host off unless another machine is there or comes: that one's guard will."""
    until = since_boot() + linger
    while True:
        # Without a wait too: a guard that was started anew, long after its machine, may find another one.
        if _has_others(place):
            _say("another machine runs here: it stays on")
            return
        left = until - since_boot()
        if left <= 0.0:
            break
        time.sleep(min(DOCKER_LOOK_SECONDS, left))
    _say(f"switching off: {command}")
    asked = subprocess.run(command, shell=True, check=False)  # noqa: S602 - the operator's own line
    _say(f"it ended with {asked.returncode}")


def _has_others(place: Place) -> bool:
    """Tell whether another machine lives here; where Docker does not say, the bill decides."""
    try:
        return any(one.tag != place.tag for one in living(place.folder))
    except OSError as error:
        _say(str(error))
        return False


def _say(what: str) -> None:
    with suppress(OSError):
        sys.stdout.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {what}\n")
        sys.stdout.flush()
