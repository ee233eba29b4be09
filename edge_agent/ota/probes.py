"""Compare what a model sees on a probe image here with what it saw in the cloud: pure arithmetic.

Engines differ in rounding, JPEG decoders in a grey level; a model that was converted wrongly, or runs on a
broken accelerator library, differs in whole boxes. Only boxes well above the noise are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_contracts.samples import DetectedBox


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Say how far apart two runs of one model may be.

    Attributes:
        sure: a box of at least this confidence on one side must be found on the other.
        confidence: largest difference of the confidence of a pair.
        iou: smallest overlap of a pair.
    """

    sure: float = 0.3
    confidence: float = 0.15
    iou: float = 0.7


def differences(expected: Sequence[DetectedBox], got: Sequence[DetectedBox],
                tolerance: Tolerance | None = None) -> tuple[str, ...]:
    """Say in words what differs; nothing when the two agree.

    A box close to `sure` may fall on either side of it, so its partner is looked for among all boxes.
    """
    bounds = tolerance or Tolerance()
    missing = [box for box in _sure(expected, bounds) if not _has_partner(box, got, bounds)]
    extra = [box for box in _sure(got, bounds) if not _has_partner(box, expected, bounds)]
    return (*(f"expected {_words(box)}, not found" for box in missing),
            *(f"found {_words(box)}, not expected" for box in extra))


def _sure(boxes: Sequence[DetectedBox], bounds: Tolerance) -> list[DetectedBox]:
    return [box for box in boxes if box.confidence >= bounds.sure]


def _has_partner(box: DetectedBox, others: Sequence[DetectedBox], bounds: Tolerance) -> bool:
    return any(other.class_id == box.class_id
               and abs(other.confidence - box.confidence) <= bounds.confidence
               and _iou(box, other) >= bounds.iou for other in others)


def _iou(one: DetectedBox, two: DetectedBox) -> float:
    width = min(one.x2, two.x2) - max(one.x1, two.x1)
    height = min(one.y2, two.y2) - max(one.y1, two.y1)
    if width <= 0.0 or height <= 0.0:
        return 0.0
    shared = width * height
    total = sum((box.x2 - box.x1) * (box.y2 - box.y1) for box in (one, two)) - shared
    return shared / total if total > 0.0 else 0.0


def _words(box: DetectedBox) -> str:
    corners = " ".join(f"{side:.0f}" for side in (box.x1, box.y1, box.x2, box.y2))
    return f"class {box.class_id} at {corners} with {box.confidence:.2f}"
