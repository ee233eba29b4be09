"""Say why a frame is hard by the frames of its part before it, which the miner gives as `SeenFrame.past`.

A part seen once has no past: these rules are silent then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Floats
from edge_agent.mining.seen import SeenFrame
from fleet_contracts.samples import Reason

VANISHED = "vanished"
FLICKER = "flicker"


@dataclass(frozen=True, slots=True)
class Vanished:
    """Keep a frame without anything at `low` though an earlier frame of the part had something at `high`."""

    low: float
    high: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by the strongest detection of the earlier frames."""
        if not seen.past.frames or _best(seen.detections) >= self.low:
            return None
        before = max(_best(frame) for frame in seen.past.frames)
        if before < self.high:
            return None
        return Reason(
            rule=VANISHED,
            score=round(min(before, 1.0), 4),
            detail=f"nothing at {self.low}, {before:.3f} within the last {len(seen.past.frames)} frames",
        )


@dataclass(frozen=True, slots=True)
class Flicker:
    """Keep a frame in which a class differs by `jump` in confidence from the frame before."""

    jump: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by the largest change of any class's best confidence."""
        if not seen.past.frames or self.jump <= 0:
            return None
        before, now = seen.past.frames[-1], seen.detections
        if len(before) == 0 and len(now) == 0:
            return None
        classes = 1 + max(_top_class(before), _top_class(now))
        change = np.abs(best_by_class(now, classes) - best_by_class(before, classes))
        class_id = int(change.argmax())
        most = float(change[class_id])
        if most < self.jump:
            return None
        return Reason(
            rule=FLICKER,
            score=round(min(most, 1.0), 4),
            detail=f"{_name(seen, class_id)} changed by {most:.3f} since the last frame",
        )


def best_by_class(found: Detections, classes: int) -> Floats:
    """Return the best confidence of each class, (classes,); 0 for a class that was not found."""
    best: Floats = np.zeros(classes, np.float32)
    np.maximum.at(best, found.class_id, found.confidence)
    return best


def _best(found: Detections) -> float:
    return float(found.confidence.max(initial=0.0))


def _top_class(found: Detections) -> int:
    return int(found.class_id.max(initial=0))


def _name(seen: SeenFrame, class_id: int) -> str:
    return seen.class_names[class_id] if class_id < len(seen.class_names) else f"class {class_id}"
