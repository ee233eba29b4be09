"""Measure average precision as COCO does: ten overlaps, 101 recall points, 100 detections a class.

Equal to pycocotools' `summarize()` over all areas (a test compares them on random data), without
its files and with law 9: an image says nothing about classes its labels do not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Mask
from detection.metrics.matching import Doubles, GroundTruth, Matches, match_image

COCO_OVERLAPS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class ApReport:
    """Hold average precision, from 0 to 1.

    Attributes:
        map50: mean over classes at overlap 0.5.
        map50_95: mean over classes and the ten overlaps.
        ap50_per_class: at overlap 0.5, by class id.
        ap_per_class: mean over the overlaps, by class id.

    Classes without any truth are absent and do not enter the means; without any truth at all the
    means are 0.0 and the dictionaries empty.
    """

    map50: float
    map50_95: float
    ap50_per_class: dict[int, float]
    ap_per_class: dict[int, float]


def average_precision(
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    class_count: int,
    *,
    overlaps: Sequence[float] = COCO_OVERLAPS,
) -> ApReport:
    """Measure predictions against truths, image by image.

    Args:
        predictions: one value per image; keep low confidences, the curve needs them.
        truths: in the same order.
        class_count: length of the class list.
        overlaps: ascending; the first one is what `map50` is measured at.

    Raises:
        ValueError: not as many predictions as truths.
    """
    matched = [match_image(found, truth, overlaps) for found, truth in zip(predictions, truths, strict=True)]
    counts = truths_per_class(truths, class_count)
    per_class: dict[int, Doubles] = {}
    for class_id in np.flatnonzero(counts):
        confidence, right = _of_class(matched, int(class_id), len(overlaps))
        order = np.argsort(-confidence, kind="stable")
        per_class[int(class_id)] = _ap(right[:, order], int(counts[class_id]))
    ap50 = {class_id: float(values[0]) for class_id, values in per_class.items()}
    ap = {class_id: float(values.mean()) for class_id, values in per_class.items()}
    return ApReport(_mean(ap50), _mean(ap), ap50, ap)


def truths_per_class(truths: Sequence[GroundTruth], class_count: int) -> np.typing.NDArray[np.int64]:
    """Count the true boxes of each class id, (class_count,)."""
    class_ids = [truth.class_id for truth in truths]
    together = np.concatenate(class_ids) if class_ids else np.empty(0, np.int64)
    return np.bincount(together, minlength=class_count).astype(np.int64)[:class_count]


def _of_class(matched: Sequence[Matches], class_id: int, levels: int) -> tuple[Doubles, Mask]:
    """Return confidence (n,) and correctness (levels, n) of one class over all images."""
    confidence = [np.empty(0, np.float64)]
    right = [np.empty((levels, 0), np.bool_)]
    for matches in matched:
        rows = matches.class_id == class_id
        confidence.append(matches.confidence[rows].astype(np.float64))
        right.append(matches.right[:, rows])
    return np.concatenate(confidence), np.concatenate(right, axis=1)


def _ap(right: Mask, truth_count: int) -> Doubles:
    """Return the mean precision over the recall points, one figure per level."""
    hits = np.cumsum(right, axis=1, dtype=np.float64)
    misses = np.cumsum(~right, axis=1, dtype=np.float64)
    precision = hits / (hits + misses + np.spacing(1))
    # Precision at a recall is the best that is reached at that recall or beyond it.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / truth_count
    result = np.zeros(len(right), np.float64)
    for level in range(len(right)):
        at = np.searchsorted(recall[level], _RECALL_POINTS, side="left")
        result[level] = precision[level, at[at < right.shape[1]]].sum() / len(_RECALL_POINTS)
    return result


def _mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else 0.0
