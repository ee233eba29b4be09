"""Gather the frames of a part and decide on it; pure, called by the loop for every frame.

A part ends when its source says so, when a frame of another part comes, or when the loop flushes because
nothing came for a while. Only then are its frames handed out as done, so that an agent killed within a part
inspects it whole again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime

from detection.decision import Decision, FrameView, PartJudge
from detection.detections import Detections
from edge_agent.model_slot import ServingModel
from edge_agent.sources.base import Frame
from fleet_contracts.base import utc_now

MAX_FRAMES = 200
"""Frames of one part that are decided on together; a part that never ends is cut here."""
_UNDECIDED = Decision("unsure")


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """Hold the decision on a part and the tokens of its frames.

    `captured_mono` and `captured_at` are those of its first frame.
    """

    part_id: str
    decision: Decision
    tokens: tuple[str, ...]
    frames: int
    camera: str = ""
    captured_mono: float = field(default_factory=time.monotonic)
    captured_at: datetime = field(default_factory=utc_now)


@dataclass(slots=True)
class _OpenPart:
    """Hold a part while its frames come."""

    part_id: str
    captured_mono: float
    captured_at: datetime
    seen: list[tuple[Detections, FrameView]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    frames: int = 0
    blind: bool = False
    decision: Decision = _UNDECIDED
    is_whole: bool = False
    judge: PartJudge | None = None
    judged_by: ServingModel | None = None


class PartTracker:
    """Turn a row of frames into decided parts.

    Args:
        max_frames: after which a part is cut.
        camera: that the frames come from.
        ends_are_told: the source marks each part's last frame; a part that ends otherwise lacks frames and
            is never accepted.
    """

    def __init__(
        self, max_frames: int = MAX_FRAMES, camera: str = "", *, ends_are_told: bool = False
    ) -> None:
        self._max_frames = max_frames
        self._camera = camera
        self._ends_are_told = ends_are_told
        self._open: _OpenPart | None = None

    def begin(self, frame: Frame) -> FinishedPart | None:
        """Open the frame's part; return the one that this ends."""
        part = self._open
        same = part is not None and part.part_id == frame.part_id and part.frames < self._max_frames
        finished = None if same else self.flush()
        if not same:
            self._open = _opened(frame)
        return finished

    def add(self, frame: Frame, detections: Detections, model: ServingModel) -> Decision:
        """Add what was seen in a frame of the open part; return the decision so far.

        Raises:
            RulesError: the model's decision rules do not fit its class list.
        """
        part = self._of(frame)
        height, width = frame.image.shape[:2]
        view = FrameView((width, height), self._camera)
        judge = _judge_of(part, model)
        decision = judge.add(detections, view)
        part.seen.append((detections, view))
        part.decision = _unless_accepted(decision) if part.blind else decision
        return part.decision

    def add_blind(self, frame: Frame) -> Decision:
        """Add a frame no model could inspect: its part is never accepted."""
        part = self._of(frame)
        part.blind = True
        part.decision = _unless_accepted(part.decision)
        return part.decision

    def done(self, frame: Frame) -> None:
        """Mark a frame of the open part as handled."""
        part = self._of(frame)
        part.frames += 1
        part.is_whole = frame.last_in_part or not self._ends_are_told
        if frame.token:
            part.tokens.append(frame.token)

    def flush(self) -> FinishedPart | None:
        """End the open part."""
        part, self._open = self._open, None
        if part is None or part.frames == 0:
            return None
        return FinishedPart(
            part.part_id,
            part.decision if part.is_whole else _unless_accepted(part.decision),
            tuple(part.tokens),
            part.frames,
            self._camera,
            part.captured_mono,
            part.captured_at,
        )

    def _of(self, frame: Frame) -> _OpenPart:
        if self._open is None or self._open.part_id != frame.part_id:
            self._open = _opened(frame)
        return self._open


def _opened(frame: Frame) -> _OpenPart:
    return _OpenPart(frame.part_id, frame.captured_mono, frame.captured_at)


def _judge_of(part: _OpenPart, model: ServingModel) -> PartJudge:
    """Return the part's judge; a new model's rules judge all of its frames again."""
    if part.judge is None or part.judged_by is not model:
        judge = PartJudge(model.decision_rules, model.detector.class_names)
        for detections, view in part.seen:
            judge.add(detections, view)
        part.judge, part.judged_by = judge, model
    return part.judge


def _unless_accepted(decision: Decision) -> Decision:
    return replace(decision, verdict="unsure") if decision.verdict == "accept" else decision
