"""Measure recall where the box really works: at each class's operating threshold.

Average precision sweeps over all thresholds; on the line there is one, and what lies under it is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.detections import Detections
from detection.metrics.average_precision import truths_per_class
from detection.metrics.matching import GroundTruth, match_image


@dataclass(frozen=True, slots=True)
class RecallReport:
    """Hold how much of what is there was found.

    Attributes:
        recall: share of all true boxes that were found; 0.0 if there are none.
        recall_per_class: by class id; classes without truths are absent.
        truths_per_class: number of true boxes by class id; the same keys.
        false_positives: detections at or above their threshold that match no truth.
        images: number of images measured.
    """

    recall: float
    recall_per_class: dict[int, float]
    truths_per_class: dict[int, int]
    false_positives: int
    images: int


def recall_at(
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    thresholds: Sequence[float],
    iou: float = 0.5,
) -> RecallReport:
    """Measure recall at one threshold per class.

    Args:
        predictions: one value per image.
        truths: in the same order.
        thresholds: by class id, as `decision.reject_thresholds` gives them.
        iou: lowest overlap of a match.

    Raises:
        ValueError: not as many predictions as truths.
    """
    at = np.asarray(thresholds, np.float32)
    found = np.zeros(len(at), np.int64)
    false_positives = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        matches = match_image(_at_or_above(prediction, at), truth, (iou,))
        found += np.bincount(matches.class_id[matches.right[0]], minlength=len(at))
        false_positives += int((~matches.right[0]).sum())
    there = truths_per_class(truths, len(at))
    present = [int(class_id) for class_id in np.flatnonzero(there)]
    return RecallReport(
        recall=float(found.sum() / there.sum()) if present else 0.0,
        recall_per_class={class_id: float(found[class_id] / there[class_id]) for class_id in present},
        truths_per_class={class_id: int(there[class_id]) for class_id in present},
        false_positives=false_positives,
        images=len(truths),
    )


def _at_or_above(found: Detections, thresholds: np.typing.NDArray[np.float32]) -> Detections:
    return found.select(found.confidence >= thresholds[found.class_id])
