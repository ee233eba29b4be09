"""Start the trainer and see to the machine's end, whatever becomes of the trainer.

(1) Adopt orphans and hear signals: whoever ends this machine tells its first process.
(2) Start the trainer; the claim goes by its standard input.
(3) Follow it: the lease's end by the store's clock, a request to end, its own end.
(4) End everything that still runs.
(5) Have the end of the log sent, by a process that has seconds for it.
(6) Switch the machine off.

Killed outright, it cannot do any of this: the trainer hears of it and does (4) to (6) in its place.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from trainer.rented import processes
from trainer.rented.clock import ClockNote, read_note, ticks
from trainer.rented.orders import Handover, Orders, pack
from trainer.rented.power import power_off
from trainer.rented.rules import GRACE_SECONDS, UNKNOWN_SECONDS, Standing, decide
from trainer.rented.showing import show
from trainer.statuses import AGAIN

_log = logging.getLogger("whetstone.rented")
POLL_SECONDS = 0.1
FAREWELL_SECONDS = 15.0
SHOWING_SECONDS = 2.0
"""How long the end of the log may take to reach whoever reads this machine's output."""
_ENDS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Patience:
    """Hold how long the guard waits for whom; tests have less of it."""

    grace: float = GRACE_SECONDS
    unknown: float = UNKNOWN_SECONDS
    power: float = 15.0


@dataclass(slots=True)
class Guard:
    """Guard one machine under one lease; `began` is when its first process of ours started, in `ticks`."""

    orders: Orders
    claim: str = field(repr=False)
    began: float
    patience: Patience = field(default_factory=Patience)
    _asked: bool = False
    _warned_at: float | None = None
    _copied: int = 0

    def run(self) -> int:
        """Do all of it and return the trainer's exit status."""
        # (1)
        processes.adopt_orphans()
        for number in _ENDS:
            signal.signal(number, self._ask)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # (2)
        trainer = self._start()
        # (3)
        status = self._follow(trainer.pid)
        trainer.returncode = status if status is not None else -int(signal.SIGKILL)
        # (4)
        if not processes.end_descendants():
            _log.error("rented.not_killed now=%s", "the machine is switched off over them")
        # (5)
        say_farewell(self.orders)
        self._copy_log(SHOWING_SECONDS)
        # (6)
        power_off(self.orders.power_off, dict(os.environ), self.patience.power)
        self._copy_log(SHOWING_SECONDS)
        return AGAIN if status is None or status < 0 else status

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _start(self) -> subprocess.Popen[bytes]:
        told = Handover(self.orders, self.claim, os.getpid(), self.began)
        self.claim = ""
        with self.orders.log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "trainer.rented.work"], stdin=subprocess.PIPE, stdout=log,
                stderr=subprocess.STDOUT, env=child_environment(),
            )  # fmt: skip
        assert child.stdin is not None
        with suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(pack(told))
        return child

    def _follow(self, trainer: int) -> int | None:
        """Return the trainer's exit status, None where it had to be killed."""
        status: int | None = None
        while True:
            ended = processes.reap(trainer)
            status = ended if ended is not None else status
            self._copy_log()
            move = self._decide(ended=status is not None)
            if move in ("end", "kill"):
                return status
            if move == "warn":
                self._warned_at = ticks()
                processes.send(trainer, signal.SIGTERM)
            time.sleep(POLL_SECONDS)

    def _decide(self, *, ended: bool) -> str:
        now = ticks()
        note = self._note()
        verdict = decide(
            Standing(
                since_began=now - self.began,
                left=note.seconds_left(self.orders.until, now) if note is not None else None,
                ended=ended,
                asked=self._asked,
                warned_for=None if self._warned_at is None else now - self._warned_at,
            ),
            grace=self.patience.grace,
            unknown=self.patience.unknown,
        )
        if verdict.why:
            _log.info("rented.%s why=%s", verdict.move, verdict.why)
        return verdict.move

    def _note(self) -> ClockNote | None:
        try:
            return read_note(self.orders.clock)
        except (OSError, ValueError, KeyError) as error:
            _log.error("rented.clock_unreadable error=%s", error)
            return None

    def _copy_log(self, seconds: float = 0.0) -> None:
        """Show what came into the log: the seller keeps a machine's output, and not its disk."""
        with suppress(OSError, ValueError), self.orders.log.open("rb") as log:
            log.seek(self._copied)
            self._copied += show(log, seconds)


def child_environment() -> dict[str, str]:
    """Return the environment of a process of ours: this one's, with this installation's packages first."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def say_farewell(orders: Orders, seconds: float = FAREWELL_SECONDS) -> None:
    """Have the end of the log sent where a ticket is there, and leave no ticket to whoever rents this next.

    It gets seconds, since the store may be away.
    """
    if not orders.ticket.is_file():
        return
    command = [sys.executable, "-m", "trainer.rented.farewell", str(orders.ticket), str(orders.log)]
    try:
        with orders.log.open("ab") as log:
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=seconds, check=False,
                env=child_environment(),
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("rented.farewell_not_sent error=%s", type(error).__name__)
    finally:
        orders.ticket.unlink(missing_ok=True)
