"""Keep the reaper's rounds going: every provider in a thread of its own, so that a slow one delays no other.

(1) Each ten seconds every provider is asked for our machines, unless its last round still goes on.
(2) Each round is noted in the database, which proves to launches that a reaper lives, and told.
(3) Beside them, runs that a person cancelled are looked for and closed, which ends their machines.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flows.database import Database
from flows.errors import FlowsError
from flows.gpus.base import GpuProvider
from flows.gpus.heartbeats import Me, beat
from flows.gpus.leases import LeaseBook
from flows.gpus.lenders import Lenders, left_alone
from flows.gpus.reaper import Round, look_after

log = logging.getLogger("whetstone.gpus")

EVERY_SECONDS = 10.0
END_SECONDS = 5.0
"""How long rounds that are under way may take to end when the reaper is told to stop."""
HANGS_AFTER = 900.0
"""Seconds after which a round that has not ended is told: nobody looks after its provider meanwhile."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Hold what rounds are made of: whose machines, whose leases, who is told, and what is done besides."""

    lenders: Lenders
    database: Database
    heard: Callable[[Round], None]
    besides: Callable[[], object] = lambda: None
    me: Me = field(default_factory=Me)


class Rounds:
    """Look after every provider until told to stop.

    Args:
        watch: what rounds are made of.
        every: seconds between the beginnings of two rounds.
        beats: whether rounds prove that a reaper lives here; one that is not run for good proves nothing.
    """

    def __init__(self, watch: Watch, *, every: float = EVERY_SECONDS, beats: bool = True) -> None:
        self._watch = watch
        self._every = every
        self._beats = beats
        self._book = LeaseBook(watch.database)
        self._busy: dict[str, threading.Thread] = {}
        self._since: dict[str, float] = {}

    def once(self) -> tuple[Round, ...]:
        """Do one round over all, one after the other, and return what came of each."""
        self._watch.besides()
        found = [self._look_after(provider) for provider in self._watch.lenders.now().values()]
        return (*found, *self._out_of_reach())

    def run(self, stop: threading.Event) -> None:
        """Begin a round every few seconds until told to stop."""
        while not stop.is_set():
            self._begin()
            stop.wait(self._every)
        for thread in self._busy.values():
            thread.join(END_SECONDS)

    def _begin(self) -> None:
        self._start("besides", self._watch.besides)
        try:
            for name, provider in self._watch.lenders.now().items():
                if not self._start(f"provider {name}", partial(self._look_after, provider)):
                    self._tell_of_hanging(name)
            self._out_of_reach()
        except (FlowsError, OSError) as error:
            log.error("gpus.round_failed error=%s", error)
        except Exception:
            # Whatever it is, the next round may do better than a reaper that died.
            log.exception("gpus.round_failed")

    def _start(self, name: str, work: Callable[[], object]) -> bool:
        """Begin a round in a thread of its own, unless the one before goes on."""
        running = self._busy.get(name)
        if running is not None and running.is_alive():
            return False

        def guarded() -> None:
            try:
                work()
            except Exception:
                # This provider's next round may do better, and the others go on.
                log.exception("gpus.round_failed name=%s", name)

        # A call that hangs must not keep the process from ending.
        self._busy[name] = threading.Thread(target=guarded, name=name, daemon=True)
        self._since[name] = time.monotonic()
        self._busy[name].start()
        return True

    def _tell_of_hanging(self, provider: str) -> None:
        if time.monotonic() - self._since[f"provider {provider}"] > HANGS_AFTER:
            why = f"a round there has not ended for {HANGS_AFTER / 60:.0f} minutes; start the reaper again"
            self._note(Round(provider, answered=False, locked_out=True, trouble=why))

    def _look_after(self, provider: GpuProvider) -> Round:
        found = look_after(self._book, provider)
        self._note(found)
        return found

    def _out_of_reach(self) -> tuple[Round, ...]:
        """Tell of providers that could not be made, and of those with leases that nobody knows any more."""
        lenders = self._watch.lenders
        failed = lenders.failed()
        known = {*lenders.now(), *(one.provider for one in failed)}
        found = (*failed, *left_alone(self._book.live(), known))
        for one in found:
            self._note(one)
        return found

    def _note(self, found: Round) -> None:
        try:
            if self._beats:
                beat(self._watch.database, self._watch.me, found, self._book.now())
        except FlowsError as error:
            log.warning("gpus.beat_not_noted provider=%s error=%s", found.provider, error)
        self._watch.heard(found)
