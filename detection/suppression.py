"""Choose among candidates: the strongest of them, and of overlapping boxes of one class the best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from detection.detections import Detections, Floats, Ints
from detection.errors import ModelOutputError


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Say what counts as a detection.

    Attributes:
        min_confidence: lowest score that is kept.
        iou: overlap above which the weaker of two boxes of one class is dropped.
        max_detections: most that are kept, the strongest.
        max_candidates: most that enter suppression, the strongest; bounds the time of a bad frame.
    """

    min_confidence: float = 0.05
    iou: float = 0.6
    max_detections: int = 300
    max_candidates: int = 1000


DEFAULT_OPTIONS = DecodeOptions()


def strongest(index: Ints, scores: Floats, limit: int) -> Ints:
    """Return at most `limit` of the indices, those of the highest scores, in their order."""
    if len(index) <= limit:
        return index
    cut = np.argpartition(-scores[index], limit - 1)[:limit]
    return np.sort(index[cut])


def require_numbers(scores: Floats, where: str) -> None:
    """Refuse a frame in which some score is no number: nobody inspected that place.

    A half-precision engine that overflows must not look like a good part, nor may a weak detection elsewhere
    hide it.

    Raises:
        ModelOutputError: some score is not a number.
    """
    # The largest of numbers and not-a-numbers is not a number: one pass, and nothing is allocated.
    if len(scores) and np.isnan(scores.max()):
        got = f"{int(np.isnan(scores).sum())} scores that are none"
        raise ModelOutputError(expected="numbers", got=got, where=where)


def require_places(xyxy: Floats) -> None:
    """Refuse a frame in which something was found, but not where.

    Raises:
        ModelOutputError: some corner is not a finite number.
    """
    if not np.isfinite(xyxy).all():
        got = f"{int((~np.isfinite(xyxy).all(axis=1)).sum())} boxes that have none"
        raise ModelOutputError(expected="corners that are numbers", got=got, where="detection output")


def suppress(found: Detections, options: DecodeOptions) -> Detections:
    """Keep the strongest of overlapping boxes of one class, strongest first.

    Raises:
        ModelOutputError: something was found at a place that is no number.
    """
    if len(found) == 0:
        return Detections.empty()
    require_places(found.xyxy)
    chosen = _survivors(found, options.iou)[: options.max_detections]
    kept = found.select(chosen)
    np.minimum(kept.confidence, 1.0, out=kept.confidence)
    return kept


def _survivors(found: Detections, iou: float) -> Ints:
    """Return the rows that suppression leaves, strongest first."""
    if len(found) == 1:
        return np.zeros(1, np.int64)
    xyxy = found.xyxy
    # OpenCV keeps classes apart by moving them away from zero, which boxes left of zero would undo.
    boxes = np.empty((len(found), 4), np.float64)
    np.subtract(xyxy[:, :2], xyxy[:, :2].min(axis=0), out=boxes[:, :2])
    np.subtract(xyxy[:, 2:], xyxy[:, :2], out=boxes[:, 2:])
    batched: Any = cv2.dnn.NMSBoxesBatched  # takes arrays, though its stub speaks of sequences
    # Doubles and 32-bit ids are what OpenCV keeps; of other types it converts number by number.
    chosen = batched(boxes, found.confidence, found.class_id.astype(np.int32), 0.0, iou)
    return np.asarray(chosen, np.int64)
