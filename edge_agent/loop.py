"""Inspect frame after frame: the loop that may never wait for anything but the camera.

    (0) without a model: wait for the first one; frames wait in the source, none is skipped unseen
    (1) take the next frame
    (2) take an offered model, if there is one: one reference changes hands between two frames
    (3) inspect; a model that fails is replaced by the one before it, on the same frame
    (4) add the frame to its part and decide
    (5) ask the mining rules; hand a hard frame to the outbox's writer, which never blocks
    (6) hand a finished part on, with its counts

All files, sockets and databases belong to other threads (law 3).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from detection.decision import Decision
from detection.detections import Detections
from detection.errors import DetectionError
from edge_agent import counters as names
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.mining.rules import SeenFrame
from edge_agent.mining.verdict import Miner
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.outbox.writer import KeptFrame, OutboxWriter, PartDone
from edge_agent.parts import FinishedPart, PartTracker
from edge_agent.sources.base import Frame
from edge_agent.sources.capture import Capture
from fleet_contracts.base import utc_now
from fleet_contracts.releases import SwapReport

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


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Say how the loop waits, in seconds; `idle_exit_s` 0 = never ends by itself."""

    camera: str
    idle_exit_s: float = 0.0
    part_idle_s: float = 0.5
    """A part is decided when no frame came for so long."""
    poll_s: float = 0.1
    on_decision: Callable[[FinishedPart], None] = lambda _: None
    """Where a sorter listens; called on the loop's thread, so it must return at once."""


class InspectionLoop:
    """Run the model of the slot on every frame of the source."""

    def __init__(self, parts: LoopParts, options: LoopOptions) -> None:
        self._parts = parts
        self._options = options
        self._tracker = PartTracker()
        self._last_result_at = time.monotonic()
        self._dropped_then = 0

    def run(self, stop: threading.Event) -> None:
        """Inspect until `stop` is set, the source has ended, or it was idle for `idle_exit_s`."""
        while not stop.is_set():
            # (0) A box without a model has nothing to inspect with; the updater is fetching one.
            if self._parts.slot.current() is None and not self._wait_for_first_model():
                continue
            # (1) A frame, or a moment without one.
            frame = self._parts.source.read(self._options.poll_s)
            if frame is None:
                if self._idle():
                    break
                continue
            self.inspect(frame, at_hand_since=time.monotonic())
        self._finish(self._tracker.flush())

    def inspect(self, frame: Frame, *, at_hand_since: float) -> None:
        """Do steps (2) to (6) for one frame."""
        # (2) Between two frames, never within one.
        self._swap(at_hand_since)
        model = self._parts.slot.current()
        if model is None:
            return
        self._finish(self._tracker.begin(frame))
        # (3) and (4)
        found, model = self._infer(frame, model)
        if found is None:
            self._tracker.add_blind(frame)
        else:
            # (5)
            self._mine(frame, found, model, self._decide(frame, found, model))
        self._tracker.done(frame)
        self._last_result_at = time.monotonic()
        self._dropped_then = self._parts.counters.value(names.DROPPED)

    def _wait_for_first_model(self) -> bool:
        if not self._parts.slot.wait_for_offer(self._options.poll_s):
            return False
        return self._parts.slot.take() is not None

    def _idle(self) -> bool:
        """Use a moment without a frame; return whether the loop should end."""
        source = self._parts.source
        self._swap(time.monotonic())
        if time.monotonic() - self._last_result_at >= self._options.part_idle_s or source.is_ended():
            self._finish(self._tracker.flush())
        if source.is_ended():
            return True
        return 0 < self._options.idle_exit_s <= min(source.idle_s(), time.monotonic() - self._last_result_at)

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
        slot.note_swap(report)
        self._parts.events.note("loop.swapped", **report.model_dump(mode="json"))

    def _infer(self, frame: Frame, model: ServingModel) -> tuple[Detections | None, ServingModel]:
        """Inspect with the model, or with the one before it if it fails; None when both do."""
        events = self._parts.events
        for _ in range(2):
            try:
                found = model.detector.infer(frame.image).detections
            except Exception as error:  # an engine raises what it likes; the line must not stop for it
                problem = f"release {model.release_version}: {type(error).__name__}: {error}"
                events.note("loop.model-failed", release=model.release_version, problem=problem)
                events.set_problem("model.failed", problem)
                logger.exception("loop.model-failed")
                other = self._parts.slot.fail(problem)
                if other is None or other is model:
                    break
                model = other
                continue
            self._parts.slot.note_good_frame()
            events.clear_problem("model.failed")
            return found, model
        # A frame nobody inspected counts as dropped, and its part is not accepted.
        self._parts.counters.add(names.DROPPED)
        return None, model

    def _decide(self, frame: Frame, found: Detections, model: ServingModel) -> Decision:
        try:
            decision = self._tracker.add(frame, found, model)
        except DetectionError as error:
            # Rules that do not fit the class list are refused by the updater; should one slip through,
            # the part is unsure and the box says why.
            self._parts.events.set_problem("rules.failed", str(error))
            return self._tracker.add_blind(frame)
        self._parts.events.clear_problem("rules.failed")
        return decision

    def _mine(self, frame: Frame, found: Detections, model: ServingModel, decision: Decision) -> None:
        seen = SeenFrame(found, self._options.camera, frame.part_id, frame.frame_in_part)
        reasons = self._parts.miner.reasons_to_keep(seen)
        if reasons:
            self._parts.writer.keep(
                KeptFrame(
                    frame=frame,
                    detections=found,
                    model_id=model.model_id,
                    release_version=model.release_version,
                    decision=decision.verdict,
                    reasons=reasons,
                )
            )

    def _finish(self, part: FinishedPart | None) -> None:
        """(6) Hand a finished part on."""
        if part is None:
            return
        counts = {names.INSPECTED: part.frames, names.PART + part.decision.verdict: 1}
        self._parts.counters.add_stored(counts)
        self._parts.writer.part_done(PartDone(part.part_id, part.tokens, counts))
        self._options.on_decision(part)
