"""Serve one output on a thread of its own: whatever its device does, nobody else waits for it.

    each turn: (1) take over what the loop handed in
               (2) what is wrong? -> the state; show it when it has changed
               (3) connect again when it is time, on a thread aside: names and handshakes take what they take
               (4) fire what is due, end pulses that are over
               (5) toggle the heartbeat
               (6) wait exactly until the next of these

The loop only appends to a queue and rings a bell. A connection that is lost is problem `output.away.<name>`,
the safe state is `output.failsafe.<name>`, and both are over when it is well again. An address that the
device refuses is `output.refused.<name>` if nothing moves by it; else the output stays away, for nobody can
rely on it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from edge_agent.backoff import Backoff
from edge_agent.counters import Counters
from edge_agent.errors import OutputAway, OutputRefused
from edge_agent.events import Events
from edge_agent.outputs.attempt import Attempt
from edge_agent.outputs.base import INFORMATION, Output, Point, Shot, Write
from edge_agent.outputs.failsafe import FailSafe, State, writes_of
from edge_agent.outputs.lateness import Lateness
from edge_agent.outputs.missed import MissedParts
from edge_agent.outputs.options import WorkerOptions
from edge_agent.outputs.refused import RefusedPoints
from edge_agent.outputs.rules import Drop, Fire, Plan, Step
from edge_agent.outputs.status import OutputStatus
from edge_agent.outputs.waker import Waker

logger = logging.getLogger("whetstone.edge.outputs")
LOOK_EVERY_S = 0.05
"""How often a worker looks whether the line may still rely on us."""
RECONNECT_FIRST_S = 0.1


class OutputWorker:
    """Serve one output.

    Args:
        output: the device; one thread at a time calls it, never the loop's.
        options: how it is served.
        trouble: says what is wrong with the inspection at a moment, "" when nothing is.
        notes: where firings are counted and problems stand.
    """

    def __init__(
        self,
        output: Output,
        options: WorkerOptions,
        trouble: Callable[[float], str],
        notes: tuple[Counters, Events],
    ) -> None:
        self.name = options.name
        self.lateness = Lateness()
        self._output = output
        self._options = options
        self._trouble = trouble
        self._counters, self._events = notes
        self._points: frozenset[Point] = output.points
        self._inbox: deque[Shot] = deque()
        self._bell = Waker()
        self._asleep_until = 0.0
        self._stop = threading.Event()
        self._plan = Plan(options.timing, options.routing)
        self._plan.hold(held=True)
        self._state = FailSafe(options.patience, time.monotonic())
        self._judged: State = self._state.state
        self._shown: State | None = None
        self._away = "not connected yet"
        self._backoff = Backoff(RECONNECT_FIRST_S, options.reconnect_max_s)
        self._connect_at = 0.0
        self._connecting: Attempt | None = None
        self._beat_at = 0.0
        self._beat = 0
        self._unseen_until = -math.inf
        self._missed = MissedParts(options, self._counters, self._events)
        self._refused = RefusedPoints(options.name, self._events)
        self._thread = threading.Thread(target=self._run, name=f"output-{options.name}", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def hand_over(self, shot: Shot) -> None:
        """Take a decided part; called by the loop, so it never waits and never fails."""
        if len(self._inbox) >= self._options.timing.limit:
            self._missed.turned_away(shot)
            return
        self._inbox.append(shot)
        # Ringing lets the other thread in first; a part that is due later is found at the next look.
        if shot.due_mono < self._asleep_until:
            self._bell.wake()

    def stop(self) -> None:
        """Ask the worker to end; `join` waits for it."""
        self._stop.set()
        self._bell.wake()

    def join(self, seconds: float) -> None:
        """Wait for the end, at most so long."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def status(self) -> OutputStatus:
        """Say how it fares; may be asked on any thread."""
        p50, p99 = self.lateness.quantiles(0.5, 0.99)
        return OutputStatus(
            self.name,
            self._state.state,
            not self._away,
            self._plan.under_way(),
            self.lateness.count,
            p50,
            p99,
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception as error:  # the thread must outlive whatever an adapter's library raises
                logger.exception("output.failed %s", self.name)
                self._events.note(
                    "output.failed", output=self.name, problem=f"{type(error).__name__}: {error}"
                )
                self._lose(f"{type(error).__name__}: {error}")
                self._bell.wait(LOOK_EVERY_S)
        self._end()

    def _turn(self) -> None:
        # (1)
        while self._inbox:
            self._take(self._inbox.popleft())
        # (2) and (3)
        now = time.monotonic()
        self._judge(now)
        if self._away:
            self._connect(now)
        # (4)
        while (step := self._plan.pop(time.monotonic())) is not None:
            self._do(step)
        # (5)
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + self._options.heartbeat_s
            self._beat ^= 1
            self._set(Write("heartbeat", self._beat))
        # (6)
        until = min(self._plan.next_mono(), self._beat_at, now + LOOK_EVERY_S)
        # First told, then looked: a part that comes between the two rings the bell or is seen here.
        self._asleep_until = until
        if not self._inbox:
            self._bell.wait(until - time.monotonic())
        self._asleep_until = 0.0

    def _take(self, shot: Shot) -> None:
        if not self._plan.add(shot):
            self._missed.note(shot, "queue full", 0.0)

    def _judge(self, now: float) -> None:
        """Find the state and show it when it has changed."""
        blind = self._trouble(now)
        if blind:
            self._unseen_until = now + self._options.unseen_s
        state = self._state.step(now, self._away or blind, self._unseen_until)
        before, self._judged = self._judged, state
        if state != before:
            self._events.note("output.state", output=self.name, state=state, why=self._state.why)
        if "safe" in (state, before) and state != before:
            self._plan.hold(held=state == "safe")
        problem = f"output.failsafe.{self.name}"
        if state == "safe":
            self._events.set_problem(problem, f"{self._options.mode}: {self._state.why}")
        else:
            self._events.clear_problem(problem)
        self._missed.tell(now)
        self._show(state)

    def _show(self, state: State) -> None:
        """Write what the state asks for; again after every new connection, since nobody knows what is set."""
        if self._away or state == self._shown:
            return
        if self._shown is None or "safe" in (state, self._shown):
            for write in writes_of(state, self._options.mode, self._state.why):
                if not self._set(write):
                    return
        self._shown = state

    def _connect(self, now: float) -> None:
        """Begin an attempt when it is time, and take its outcome in when it has ended."""
        if self._connecting is None:
            if now >= self._connect_at:
                self._connecting = Attempt(self._output, self._bell)
            return
        problem = self._connecting.outcome()
        if problem is None:
            return
        self._connecting = None
        if problem:
            self._lose(problem)
            return
        self._away, self._shown = "", None
        # A device that hangs still takes connections: only one that takes a write is there again.
        self._show(self._state.state)
        if self._away:
            return
        self._backoff.reset()
        self._events.clear_problem(f"output.away.{self.name}")
        self._events.note("output.connected", output=self.name)

    def _do(self, step: Step) -> None:
        if isinstance(step, Drop):
            self._set(Write(step.lane, 0))
        elif isinstance(step, Fire):
            self._fire(step)
        else:
            self._missed.note(step.shot, step.why, step.late_s)

    def _fire(self, step: Fire) -> None:
        for write in step.writes:
            if not self._set(write):
                self._missed.note(step.shot, "away", time.monotonic() - step.shot.due_mono)
                return
        now = time.monotonic()
        if step.lane is None:
            return
        late_s = now - step.shot.due_mono
        self.lateness.note(late_s * 1000.0)
        self._missed.count("fired")
        if self._plan.pulsed(step.lane, now):
            self._missed.count("merged")

    def _set(self, write: Write) -> bool:
        """Write a point if it has an address; False when the device is away, or refuses a lane or `stop`."""
        if write.point not in self._points:
            return True
        if self._away:
            return False
        try:
            self._output.write(write)
        except OutputAway as error:
            if isinstance(error, OutputRefused) and write.point in INFORMATION:
                self._refused.note(write.point, str(error))
                return True
            self._lose(str(error))
            return False
        self._refused.over(write.point)
        return True

    def _lose(self, problem: str) -> None:
        """Mark the connection as lost and plan the next attempt, spread so that boxes do not come at once."""
        now = time.monotonic()
        self._away, self._shown = problem, None
        self._connect_at = now + self._backoff.next_s()
        # A write may have taken its whole timeout: the time until the safe state counts from now on.
        self._state.step(now, problem)
        self._events.set_problem(f"output.away.{self.name}", problem)

    def _end(self) -> None:
        """Leave the output as configured: nobody inspects from now on."""
        try:
            state: State = "safe" if self._options.safe_at_stop else "healthy"
            for write in writes_of(state, self._options.mode, "the agent was stopped"):
                self._set(write)
            if self._connecting is None:
                self._output.close()
        except Exception as error:  # the last thing this thread does
            logger.exception("output.failed %s", self.name)
            self._events.note("output.failed", output=self.name, problem=f"{type(error).__name__}: {error}")
