"""Feed systemd's watchdog while the loop is judged to turn, and say why when it is not.

    (1) the loop turns for the first time: READY=1
    (2) it turns on: WATCHDOG=1 three times per period, and STATUS= for `systemctl status`
    (3) it hangs: the problem stands, the reporter's thread tells it, and the feeding stops, so that systemd
        ends and restarts the service; without systemd the process ends itself if it was told to
    (4) it turns again before it was ended: the problem is cleared and the feeding goes on

Nothing else stops the feeding: not a camera, not a broker, not a disk.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.care.heartbeat import Heartbeat
from edge_agent.care.judgement import Deadlines, Judgement, judge
from edge_agent.care.notify import Notifier, notifier_from
from edge_agent.events import Events
from edge_agent.settings.care import CareConfig

logger = logging.getLogger("whetstone.edge.care")
EXIT_HUNG = 3
"""Exit code of a process that ended itself because its loop hung."""
LOOK_EVERY_S = 0.5
STATUS_EVERY_S = 5.0
LAST_WORDS_S = 2.0
"""So long does the reporter get to tell why, before the process ends itself."""
PROBLEM = "engine.hung"


@dataclass(frozen=True, slots=True)
class CareOptions:
    """Say what is allowed and what is done when it is exceeded."""

    deadlines: Deadlines = field(default_factory=Deadlines)
    exit_when_hung: bool = False
    end_process: Callable[[int], None] = os._exit
    """What ends the process; a thread that hangs in an engine cannot be asked to."""


class Watchdog:
    """Act on the judgement over the loop, on a thread of its own."""

    def __init__(
        self,
        heart: Heartbeat,
        notifier: Notifier,
        options: CareOptions,
        events: Events,
        status_text: Callable[[], str] = lambda: "",
    ) -> None:
        self._heart = heart
        self._notifier = notifier
        self._options = options
        self._events = events
        self._status_text = status_text
        self._stop = threading.Event()
        self._ready = False
        self._fed_at = 0.0
        self._hung_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, wait_s: float = 0.5) -> None:
        """Say that the service ends, and watch no more: the end has a deadline of its own."""
        self._stop.set()
        self._notifier.tell("STOPPING=1", "STATUS=ending")
        if self._thread.ident is not None:
            self._thread.join(wait_s)

    def look(self, now_mono: float) -> Judgement:
        """Judge and act once, at `now_mono` seconds of `time.monotonic()`."""
        judgement = judge(self._heart, now_mono, self._options.deadlines)
        if judgement.health == "hung":
            self._on_hung(judgement, now_mono)
        elif judgement.is_healthy:
            self._on_healthy(judgement, now_mono)
        return judgement

    def _run(self) -> None:
        step_s = LOOK_EVERY_S
        if self._notifier.is_watched:
            step_s = min(step_s, self._notifier.watchdog_s / 3)
        while not self._stop.is_set():
            try:
                self.look(time.monotonic())
            except Exception as error:  # the thread's outer edge: the next look may do better
                self._events.note("care.look-failed", problem=f"{type(error).__name__}: {error}")
                logger.exception("care.look-failed")
            self._stop.wait(step_s)

    def _on_healthy(self, judgement: Judgement, now_mono: float) -> None:
        if self._hung_since is not None:
            self._hung_since = None
            self._fed_at = 0.0
            self._events.clear_problem(PROBLEM)
        if not self._ready:
            self._ready = True
            self._events.note("care.ready")
            self._notifier.tell("READY=1", self._status(judgement))
        every_s = self._notifier.watchdog_s / 3 if self._notifier.is_watched else STATUS_EVERY_S
        if now_mono - self._fed_at >= every_s:
            self._fed_at = now_mono
            words = ("WATCHDOG=1",) if self._notifier.is_watched else ()
            self._notifier.tell(*words, self._status(judgement))

    def _on_hung(self, judgement: Judgement, now_mono: float) -> None:
        if self._hung_since is None:
            self._hung_since = now_mono
            self._events.note("care.hung", why=judgement.why, watched=self._notifier.is_watched,
                              ends=self._options.exit_when_hung)  # fmt: skip
            self._notifier.tell(f"STATUS=hung: {judgement.why}")
            self._events.set_problem(PROBLEM, judgement.why)
        if self._notifier.is_watched or not self._options.exit_when_hung:
            return
        if now_mono - self._hung_since >= LAST_WORDS_S:
            self._options.end_process(EXIT_HUNG)

    def _status(self, judgement: Judgement) -> str:
        text = self._status_text() or judgement.why
        return "STATUS=" + text.replace("\n", " ")


def build_watchdog(
    care: CareConfig, heart: Heartbeat, events: Events, status_text: Callable[[], str] = lambda: ""
) -> Watchdog:
    """Return the watchdog of this process, fed to systemd where systemd has started it."""
    options = CareOptions(Deadlines(care.engine_deadline_s, care.loop_deadline_s), care.exit_when_hung)
    return Watchdog(heart, notifier_from(os.environ), options, events, status_text)
