"""Hand every decided part to every output, and watch whether the line may rely on the inspection.

`Sorter.on_decision` is called on the loop's thread: it builds one value and appends it to a queue per output.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from detection.decision import Decision
from edge_agent.care.judgement import Deadlines, HeartbeatState, judge
from edge_agent.config import AgentConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.outputs.base import Output, Shot
from edge_agent.outputs.choose import open_output
from edge_agent.outputs.failsafe import Patience
from edge_agent.outputs.options import WorkerOptions
from edge_agent.outputs.rules import Routing, Timing
from edge_agent.outputs.status import OutputStatus
from edge_agent.outputs.worker import OutputWorker
from edge_agent.settings.outputs import AnyOutput


class DecidedPart(Protocol):
    """Be a part with its verdict; `edge_agent.parts.FinishedPart` is the real one."""

    @property
    def part_id(self) -> str:
        """Return the part's name."""

    @property
    def camera(self) -> str:
        """Return the camera that saw it."""

    @property
    def decision(self) -> Decision:
        """Return the verdict and what led to it."""

    @property
    def captured_at(self) -> datetime:
        """Return when its first picture was taken."""

    @property
    def captured_mono(self) -> float:
        """Return the same in seconds of `time.monotonic()`."""


@dataclass(frozen=True, slots=True)
class LoopSigns:
    """Hold by what a sorter knows that parts are inspected; what is None is not watched."""

    heart: HeartbeatState | None = None
    is_serving: Callable[[], bool] | None = None
    """Whether there is a model at all."""
    silent_s: Callable[[], float] | None = None
    """Since when a camera that should never be silent has given no frame, its start included."""


class Watch:
    """Say what is wrong with the inspection: a loop that hangs, no model, a camera or engine in trouble."""

    def __init__(self, signs: LoopSigns, events: Events, one: AnyOutput) -> None:
        self._signs = signs
        self._events = events
        stall_s = one.stall_ms / 1000.0
        self._deadlines = Deadlines(engine_s=stall_s, loop_s=stall_s)
        self._stopped = f"the loop has stopped: nothing for more than {one.stall_ms:g} ms (stall_ms)"
        self._silence_s = one.silence_ms / 1000.0
        self._silent = f"the camera gave no frame for more than {one.silence_ms:g} ms (silence_ms)"
        self._problems = one.failsafe_problems

    def __call__(self, now: float) -> str:
        """Return what is wrong at `now`, seconds of `time.monotonic()`; "" when nothing is."""
        if self._signs.heart is not None:
            judgement = judge(self._signs.heart, now, self._deadlines)
            if not judgement.is_healthy:
                return self._stopped if judgement.health == "hung" else judgement.why
        if self._signs.is_serving is not None and not self._signs.is_serving():
            return "there is no model to inspect with"
        silent_s = self._signs.silent_s
        standing = self._events.problems()
        found = next((name for name in sorted(standing) if name.startswith(self._problems)), "")
        if found:
            return f"{found}: {standing[found]}"
        # Last, for a problem that stands says more.
        return self._silent if silent_s is not None and 0 < self._silence_s < silent_s() else ""


class Sorter:
    """Be the loop's listener, with one worker per output."""

    def __init__(self, workers: Sequence[OutputWorker], travel_s: Sequence[float]) -> None:
        self.workers = tuple(workers)
        self._lanes = tuple(zip(self.workers, travel_s, strict=True))
        self._number = 0

    def on_decision(self, part: DecidedPart) -> None:
        """Send a decided part on its way to every output; never waits."""
        self._number += 1
        for worker, travel_s in self._lanes:
            worker.hand_over(
                Shot(
                    part_id=part.part_id,
                    camera=part.camera,
                    verdict=part.decision.verdict,
                    number=self._number,
                    captured_at=part.captured_at,
                    due_mono=part.captured_mono + travel_s,
                    findings=part.decision.findings,
                )
            )

    def start(self) -> None:
        """Start every output's thread; returns at once, whether or not a device answers."""
        for worker in self.workers:
            worker.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Leave every output in its state for a stopped agent, all together within about so long."""
        deadline = time.monotonic() + seconds
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def status(self) -> tuple[OutputStatus, ...]:
        """Say how every output fares."""
        return tuple(worker.status() for worker in self.workers)


def build_sorter(
    config: AgentConfig,
    counters: Counters,
    events: Events,
    signs: LoopSigns | None = None,
    opener: Callable[[AnyOutput], Output] = open_output,
) -> Sorter:
    """Return a sorter for the configured outputs; without any it does nothing.

    Args:
        config: its `outputs` say what there is.
        counters: firings are counted as `output.<name>.fired`, `missed`, `held`, `merged`.
        events: problems stand as `output.away.<name>`, `.refused`, `.failsafe` and `.missed`.
        signs: by what the sorter knows that parts are inspected.
        opener: makes the adapters; tests give twins.

    Raises:
        ConfigError: a library is missing, or a secret or certificate file cannot be read.
    """
    workers = []
    for one in config.outputs:
        watch = Watch(signs or LoopSigns(), events, one)
        workers.append(OutputWorker(opener(one), _options_of(one), watch, (counters, events)))
    return Sorter(workers, [one.travel_ms / 1000.0 for one in config.outputs])


def _options_of(one: AnyOutput) -> WorkerOptions:
    travel_s = one.travel_ms / 1000.0
    # An output without a way to it acts at once: what was decided after the picture is not late for it.
    late_ok_s = one.late_ok_ms / 1000.0 if travel_s else math.inf
    return WorkerOptions(
        name=one.name,
        timing=Timing(travel_s, one.pulse_ms / 1000.0, late_ok_s, one.queue_parts),
        routing=Routing(one.on, one.unsure),
        mode=one.failsafe,
        patience=Patience(one.failsafe_after_ms / 1000.0, one.recover_ms / 1000.0),
        heartbeat_s=one.heartbeat_ms / 1000.0,
        reconnect_max_s=one.reconnect_max_s,
        safe_at_stop=one.at_stop == "failsafe",
        # Until the last part has passed the ejector that went by the camera meanwhile; a line that passes all
        # anyway, or stands, gains nothing by it.
        unseen_s=travel_s if one.failsafe == "reject_all" else 0.0,
    )
