"""Gather the frames of a part and decide on it; pure, called by the loop for every frame.

A part ends when a frame of another part comes, or when the loop flushes because nothing came for a while.
Only then are its frames handed out as done, so that an agent killed within a part inspects it whole again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from detection.decision import Decision, decide_part
from detection.detections import Detections
from edge_agent.model_slot import ServingModel
from edge_agent.sources.base import Frame

MAX_FRAMES = 200
"""Frames of one part that are decided on together; a part that never ends is cut here."""


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """Hold the decision on a part and the tokens of its frames."""

    part_id: str
    decision: Decision
    tokens: tuple[str, ...]
    frames: int


@dataclass(slots=True)
class _OpenPart:
    part_id: str
    seen: list[Detections] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    frames: int = 0
    blind: bool = False
    decision: Decision = field(default_factory=lambda: Decision("unsure"))


class PartTracker:
    """Turn a row of frames into decided parts."""

    def __init__(self, max_frames: int = MAX_FRAMES) -> None:
        self._max_frames = max_frames
        self._open: _OpenPart | None = None

    def begin(self, frame: Frame) -> FinishedPart | None:
        """Open the frame's part; return the one that this ends."""
        part = self._open
        same = part is not None and part.part_id == frame.part_id and part.frames < self._max_frames
        finished = None if same else self.flush()
        if not same:
            self._open = _OpenPart(frame.part_id)
        return finished

    def add(self, frame: Frame, detections: Detections, model: ServingModel) -> Decision:
        """Add what was seen in a frame of the open part; return the decision so far.

        Raises:
            RulesError: the model's decision rules do not fit its class list.
        """
        part = self._of(frame)
        part.seen.append(detections)
        decision = decide_part(part.seen, model.decision_rules, model.detector.class_names)
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
        if frame.token:
            part.tokens.append(frame.token)

    def flush(self) -> FinishedPart | None:
        """End the open part."""
        part, self._open = self._open, None
        if part is None or part.frames == 0:
            return None
        return FinishedPart(part.part_id, part.decision, tuple(part.tokens), part.frames)

    def _of(self, frame: Frame) -> _OpenPart:
        if self._open is None or self._open.part_id != frame.part_id:
            self._open = _OpenPart(frame.part_id)
        return self._open


def _unless_accepted(decision: Decision) -> Decision:
    return replace(decision, verdict="unsure") if decision.verdict == "accept" else decision
