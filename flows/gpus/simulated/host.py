"""Be the host of a machine of the simulated cloud: `python -m flows.gpus.simulated.host`, its order on stdin.

    (1) write down who we are, so that whoever looks can tell that the machine has a host
    (2) boot
    (3) start the image's command
    (4) wait: it exits, its deadline comes, it is taken away, or somebody else ended it
    (5) end whatever runs on the machine, then say that it ended

Nobody of the tenant's has to live for (4) and (5). The order comes by standard input, since it holds a claim.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, Field

from fleet_contracts import utc_now
from flows.files import write_file
from flows.gpus import sessions
from flows.gpus.become import boot_id
from flows.gpus.simulated.cloud import DEADLINE, TAKEN_AWAY, Cloud
from flows.gpus.simulated.preemption import Moment, Uploaded
from flows.up.processes import name_of, start_bound

POLL_SECONDS = 0.1
LOOK_SECONDS = 0.2
"""Between two looks at how far the run is, on a machine that is to be taken away."""


class Hosting(BaseModel):
    """Say what a host has to do; `environment` holds the claim."""

    place: Path
    name: str
    until: datetime
    boot_seconds: float
    command: tuple[str, ...]
    environment: dict[str, str] = Field(repr=False)
    claim: str = Field("", repr=False)
    take_after: float | None = None
    """Epochs after which the machine is taken away; None leaves it to its tenant."""
    notice_seconds: float = 0.0


@dataclass(slots=True)
class Host:
    """Run one machine."""

    order: Hosting
    me: sessions.Session
    _look_at: float = 0.0

    @property
    def _cloud(self) -> Cloud:
        return Cloud(self.order.place)

    def run(self) -> None:
        """Do everything from (2) on; return when the machine has ended."""
        # (2)
        why = self._boot()
        if not why:
            # (3)
            guest = self._start()
            # (4)
            why = self._wait(guest)
            if why == TAKEN_AWAY and self.order.notice_seconds > 0:
                self._give_notice(guest)
        # (5)
        self._end_everything()
        self._cloud.note_end(self.order.name, why)

    def _boot(self) -> str:
        """Wait until the system is up; return why it never was, "" where it is."""
        up_at = time.monotonic() + self.order.boot_seconds
        while time.monotonic() < up_at:
            why = self._why_over()
            if why:
                return why
            time.sleep(min(POLL_SECONDS, max(up_at - time.monotonic(), 0.0)))
        return self._why_over()

    def _start(self) -> subprocess.Popen[bytes]:
        disk, name = self._cloud.disk(self.order.name), self.order.name
        (disk / "tmp").mkdir(parents=True, exist_ok=True)
        self._cloud.note_booted(name)
        # It dies with its host: a machine whose power is gone computes no more.
        return start_bound(self.order.command, env=self.order.environment, log=self._cloud.console(name),
                           folder=disk)  # fmt: skip

    def _wait(self, guest: subprocess.Popen[bytes]) -> str:
        moment = None if self.order.take_after is None else Moment(self.order.take_after)
        uploaded = Uploaded(self.order.claim, self._say)
        while True:
            why = self._why_over()
            if why:
                return why
            if guest.poll() is not None:
                return f"its command ended with {guest.returncode}"
            if moment is not None and self._is_taken(moment, uploaded):
                return TAKEN_AWAY
            time.sleep(POLL_SECONDS)

    def _is_taken(self, moment: Moment, uploaded: Uploaded) -> bool:
        now = time.monotonic()
        if now >= self._look_at:
            count = uploaded()
            now = time.monotonic()
            self._look_at = now + LOOK_SECONDS
            if count is not None:
                moment.saw(count, now)
        return moment.has_come(now)

    def _why_over(self) -> str:
        found = self._cloud.end_of(self.order.name)
        if found:
            return found
        return DEADLINE if utc_now() >= self.order.until else ""

    def _give_notice(self, guest: subprocess.Popen[bytes]) -> None:
        self._say(f"notice: this machine is taken away in {self.order.notice_seconds:g} s")
        guest.send_signal(signal.SIGTERM)
        try:
            guest.wait(self.order.notice_seconds)
        except subprocess.TimeoutExpired:
            self._say("it is taken away")

    def _end_everything(self) -> None:
        """Kill all of this session but ourselves, until nothing is left."""
        mine = os.getpid()
        while others := [one for one in sessions.members(self.me) if one.pid != mine]:
            for one in others:
                try:
                    os.kill(one.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)

    def _say(self, text: str) -> None:
        with self._cloud.console(self.order.name).open("a") as console:
            console.write(f"[host] {text}\n")


def main() -> None:
    """Host the machine that standard input orders."""
    order = Hosting.model_validate_json(sys.stdin.buffer.read())
    sys.stdin.close()
    me = name_of(os.getpid())
    if me is None:
        sys.exit("this system has no /proc, so a process cannot be told from a later one")
    # (1)
    session = sessions.Session(me.pid, me.start_ticks, boot_id())
    content = {"pid": session.pid, "start_ticks": session.start_ticks, "boot": session.boot}
    write_file(order.place / order.name / "host.json", json.dumps(content).encode())
    Host(order, session).run()


if __name__ == "__main__":
    main()
