"""Say why a frame is hard by what the model doubts within it: close classes, and boxes that contradict.

Rules look at the strongest `MOST_ROWS` detections that reach `low`; the order of rows does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Ints
from detection.metrics.matching import box_iou
from edge_agent.mining.seen import SeenFrame
from fleet_contracts.samples import Reason

CLASS_MARGIN = "class-margin"
MIXED_OVERLAP = "mixed-overlap"
MOST_ROWS = 48
"""Pairs are looked at as matrices: 48 rows make 37 kB at most, 300 would make 1.4 MB a frame."""


@dataclass(frozen=True, slots=True)
class ClassMargin:
    """Keep a frame with a detection whose second-best class comes within `margin` of its best one.

    Silent for models that do not tell the second-best class (end-to-end heads).
    """

    low: float
    margin: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by how near the second-best class comes: 1 when both are equal."""
        confidence, runner_up = seen.detections.confidence, seen.detections.runner_up
        if runner_up is None or confidence.size == 0 or self.margin <= 0:
            return None
        gaps = (confidence - runner_up)[confidence >= self.low]
        close = gaps[gaps < self.margin]
        if close.size == 0:
            return None
        gap = max(float(close.min()), 0.0)
        return Reason(
            rule=CLASS_MARGIN,
            score=round(1.0 - gap / self.margin, 4),
            detail=f"{close.size} of {confidence.size} within {self.margin} of another class",
        )


@dataclass(frozen=True, slots=True)
class MixedOverlap:
    """Keep a frame in which two boxes of different classes overlap by at least `iou`."""

    low: float
    iou: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by overlap times how equal the two are in confidence: 1 for one place named twice, alike."""
        found = seen.detections
        if len(found) < 2:
            return None
        rows = strongest(found, self.low)
        if rows.size < 2:
            return None
        class_id, confidence = found.class_id[rows], found.confidence[rows]
        other_class = class_id[:, None] != class_id[None, :]
        if not other_class.any():
            return None
        boxes = found.xyxy[rows]
        overlap = box_iou(boxes, boxes)
        mixed = other_class & (overlap >= self.iou)
        if not mixed.any():
            return None
        weaker = np.minimum(confidence[:, None], confidence[None, :])
        stronger = np.maximum(np.maximum(confidence[:, None], confidence[None, :]), 1e-6)
        score = float((overlap * weaker / stronger)[mixed].max())
        return Reason(
            rule=MIXED_OVERLAP,
            score=round(min(score, 1.0), 4),
            detail=f"{int(mixed.sum()) // 2} pairs of different classes overlap by {self.iou} or more",
        )


def strongest(found: Detections, low: float) -> Ints:
    """Return the rows that reach `low`, at most `MOST_ROWS` of them, the strongest."""
    rows: Ints = np.flatnonzero(found.confidence >= low)
    if rows.size > MOST_ROWS:
        rows = rows[np.argsort(-found.confidence[rows], kind="stable")[:MOST_ROWS]]
    return rows
