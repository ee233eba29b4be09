"""Inspect frame after frame: the loop that may never wait for anything but the camera.

    (0) without a model: wait for the first one; frames wait in the source, none is skipped unseen
    (1) take the next frame; where a core is left for it, the one after is prepared meanwhile
    (2) take an offered model, if there is one: one reference changes hands between two frames
    (3) inspect; a model that fails is replaced by the one before it, on the same frame
    (4) add the frame to its part and decide
    (5) ask the mining rules; hand a hard frame to the outbox's writer, which never blocks
    (6) hand a finished part on, with its counts

Each turn beats the heart, frame or none, so that a hung engine is told from an idle line. All files, sockets
and databases belong to other threads (law 3).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from detection.decision import Decision
from detection.detections import Detections
from detection.errors import DetectionError
from edge_agent import counters as names
from edge_agent.care.heartbeat import Heartbeat
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.mining.seen import SeenFrame
from edge_agent.mining.verdict import Miner
from edge_agent.model_slot import Inferred, ModelSlot, ServingModel
from edge_agent.outbox.writer import KeptFrame, OutboxWriter, PartDone
from edge_agent.parts import FinishedPart, PartTracker
from edge_agent.prefetch import Prefetch
from edge_agent.sources.base import Frame
from edge_agent.sources.capture import Capture
from edge_agent.timings import StageTimes
from fleet_contracts.base import utc_now
from fleet_contracts.releases import SwapReport

if TYPE_CHECKING:
    from detection.session import Prepared

BEAT_AT_LEAST_S = 1.0  # for the watchdog, frame or none
logger = logging.getLogger("whetstone.edge.loop")


@dataclass(frozen=True, slots=True)
class LoopParts:
    """Hold what the loop is made of."""

    source: Capture
    slot: ModelSlot
    miner: Miner
    writer: OutboxWriter
    counters: Counters
    events: Events
    heart: Heartbeat = field(default_factory=Heartbeat)
    times: StageTimes = field(default_factory=StageTimes)


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Say how the loop waits, in seconds; `idle_exit_s` 0 = never ends by itself."""

    camera: str
    idle_exit_s: float = 0.0
    source_hung_s: float = 10.0
    part_idle_s: float = 0.5
    """A part is decided when no frame came for so long; must be longer than its frames lie apart."""
    ends_are_told: bool = False
    """The source ends every part itself; one that ends otherwise is never accepted."""
    poll_s: float = 0.1
    overlap: bool = False
    """Prepare the next frame on another thread while the engine runs (`prefetch.should_overlap`)."""
    on_decision: Callable[[FinishedPart], None] = lambda _: None
    """Where a sorter listens; called on the loop's thread, so it must return at once."""


class InspectionLoop:
    """Run the model of the slot on every frame of the source."""

    def __init__(self, parts: LoopParts, options: LoopOptions) -> None:
        self.stage_times = parts.times
        self._parts = parts
        self._options = options
        self._tracker = PartTracker(camera=options.camera, ends_are_told=options.ends_are_told)
        self._prefetch = Prefetch(parts.source, parts.slot) if options.overlap else None
        self._poll_s = min(options.poll_s, BEAT_AT_LEAST_S)
        self._last_result_at = time.monotonic()
        self._dropped_then = 0
        self._failing: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop` is set, the source has ended, or it was idle for `idle_exit_s`."""
        if self._prefetch is not None:
            self._prefetch.start()
        try:
            self._turn_until(stop)
        finally:
            if self._prefetch is not None:
                self._prefetch.stop()
        self._finish(self._tracker.flush())

    def _turn_until(self, stop: threading.Event) -> None:
        parts, waiting_since = self._parts, time.perf_counter()
        while not stop.is_set():
            parts.heart.beat()
            # (0) A box without a model has nothing to inspect with; the updater is fetching one.
            if parts.slot.current() is None and not self._wait_for_first_model():
                continue
            # (1) A frame, or a moment without one.
            frame = parts.source.read(self._poll_s)
            if frame is None:
                if self._idle():
                    break
                continue
            at_hand = time.perf_counter()
            parts.times.note("wait", (at_hand - waiting_since) * 1e3)
            self.inspect(frame, at_hand_since=time.monotonic())
            waiting_since = time.perf_counter()
            parts.times.note("total", (waiting_since - at_hand) * 1e3)

    def inspect(self, frame: Frame, *, at_hand_since: float) -> None:
        """Do steps (2) to (6) for one frame."""
        # (2) Between two frames, never within one.
        self._swap(at_hand_since)
        model = self._parts.slot.current()
        if model is None:
            return
        self._finish(self._tracker.begin(frame))
        # A picture the source calls faulty shows nothing one may judge by: its part is not accepted.
        if frame.fault:
            self._tracker.add_blind(frame)
        else:
            self._judge(frame, model)
        self._tracker.done(frame)
        if frame.last_in_part:
            self._finish(self._tracker.flush())
        self._last_result_at = time.monotonic()
        self._dropped_then = self._parts.counters.value(names.DROPPED)

    def _judge(self, frame: Frame, model: ServingModel) -> None:
        times = self._parts.times
        seen, model = self._infer(frame, model)  # (3)
        if seen is None:
            self._tracker.add_blind(frame)
            return
        inferred_at = time.perf_counter()
        decision = self._decide(frame, seen.detections, model)  # (4)
        decided_at = time.perf_counter()
        self._mine(frame, seen, model, decision)  # (5)
        times.note("prepare", seen.preprocess_ms)
        times.note("engine", seen.engine_ms)
        times.note("decode", seen.postprocess_ms)
        times.note("decide", (decided_at - inferred_at) * 1e3)
        times.note("mine", (time.perf_counter() - decided_at) * 1e3)

    def _wait_for_first_model(self) -> bool:
        if not self._parts.slot.wait_for_offer(self._poll_s):
            return False
        return self._parts.slot.take() is not None

    def _idle(self) -> bool:
        """Use a moment without a frame; return whether the loop should end."""
        source = self._parts.source
        self._swap(time.monotonic())
        self._watch(source.stuck_s())
        if time.monotonic() - self._last_result_at >= self._options.part_idle_s or source.is_ended():
            self._finish(self._tracker.flush())
        if source.is_ended():
            return True
        return 0 < self._options.idle_exit_s <= min(source.idle_s(), time.monotonic() - self._last_result_at)

    def _watch(self, stuck_s: float) -> None:
        """Tell of a source that hangs in one call, such as a network share; capture says when it is over."""
        if stuck_s > self._options.source_hung_s:
            self._parts.events.set_problem("source.hung", "it does not come back from reading a frame")

    def _swap(self, at_hand_since: float) -> None:
        """Take an offered model and measure how long the frame at hand had to wait for it."""
        slot, old = self._parts.slot, self._parts.slot.current()
        new = slot.take()
        if new is None or old is None:
            return
        waited_from = max(at_hand_since, self._last_result_at)
        report = SwapReport(
            from_version=old.release_version,
            to_version=new.release_version,
            swapped_at=utc_now(),
            gap_ms=round((time.monotonic() - waited_from) * 1000, 3),
            frames_dropped=self._parts.counters.value(names.DROPPED) - self._dropped_then,
        )
        # What the old model could not do says nothing of this one.
        for problem in ("model.failed", "rules.failed"):
            self._parts.events.clear_problem(problem)
        slot.note_swap(report)
        self._parts.events.note("loop.swapped", **report.model_dump(mode="json"))

    def _infer(self, frame: Frame, model: ServingModel) -> tuple[Inferred | None, ServingModel]:
        """Inspect with the model, or with the one before it if it fails; None when both do."""
        events, heart = self._parts.events, self._parts.heart
        for _ in range(2):
            try:
                prepared = self._prepared(frame, model)
                with heart.engine():
                    seen = model.detector.detect(prepared)
            except Exception as error:  # an engine raises what it likes; the line must not stop for it
                problem = f"release {model.release_version}: {type(error).__name__}: {error}"
                events.note("loop.model-failed", release=model.release_version, problem=problem)
                self._fails("model.failed", problem)
                logger.exception("loop.model-failed")
                other = self._parts.slot.fail(problem)
                if other is None or other is model:
                    break
                model = other
                continue
            self._parts.slot.note_good_frame()
            self._works("model.failed")
            return seen, model
        # A frame nobody inspected counts as dropped, and its part is not accepted.
        self._parts.counters.add(names.DROPPED)
        return None, model

    def _decide(self, frame: Frame, found: Detections, model: ServingModel) -> Decision:
        try:
            decision = self._tracker.add(frame, found, model)
        except DetectionError as error:
            # Rules that do not fit the class list are refused by the updater; should one slip through,
            # the part is unsure and the box says why.
            self._fails("rules.failed", str(error))
            return self._tracker.add_blind(frame)
        self._works("rules.failed")
        return decision

    def _prepared(self, frame: Frame, model: ServingModel) -> Prepared:
        ready = None if self._prefetch is None else self._prefetch.take(frame)
        return ready or model.detector.prepare(frame.image)

    def _mine(self, frame: Frame, inferred: Inferred, model: ServingModel, decision: Decision) -> None:
        try:
            self._ask_miner(frame, inferred, model, decision)
        except Exception as error:  # an example lost is no reason to stop, and to meet this frame again
            problem = f"{type(error).__name__}: {error}"
            self._parts.events.note("loop.mining-failed", problem=problem)
            self._fails("mining.failed", problem)
            logger.exception("loop.mining-failed")
            return
        self._works("mining.failed")

    def _ask_miner(self, frame: Frame, inferred: Inferred, model: ServingModel, decision: Decision) -> None:
        height, width = frame.image.shape[:2]
        miner = self._parts.miner
        seen = SeenFrame(
            inferred.detections,
            self._options.camera,
            frame.part_id,
            frame.frame_in_part,
            features=inferred.features,
            frame_size=(width, height),
            image=frame.image,
            class_names=model.detector.class_names,
            flag=frame.flag,
            reference=model.detector.feature_reference,
        )
        reasons = miner.reasons_to_keep(seen)
        if not reasons and not miner.recent.size:
            return
        kept = KeptFrame(
            frame=frame,
            detections=inferred.detections,
            model_id=model.model_id,
            release_version=model.release_version,
            decision=decision.verdict,
            reasons=reasons,
        )
        if reasons and not self._parts.writer.keep(kept):
            miner.campaigns.take_back()
        miner.recent.add(kept)

    def _fails(self, problem: str, text: str) -> None:
        self._failing.add(problem)
        self._parts.events.set_problem(problem, text)

    def _works(self, problem: str) -> None:
        if problem in self._failing:
            self._failing.remove(problem)
            self._parts.events.clear_problem(problem)

    def _finish(self, part: FinishedPart | None) -> None:
        """(6) Hand a finished part on."""
        if part is None:
            return
        counts = {names.INSPECTED: part.frames, names.PART + part.decision.verdict: 1}
        self._parts.counters.add_stored(counts)
        self._parts.miner.part_done(part.part_id)
        self._parts.writer.part_done(PartDone(part.part_id, part.tokens, counts))
        self._options.on_decision(part)
