"""Say how differently two files see the same images: 0 is alike, 1 nothing in common.

Each detection of either file weighs by its confidence. A pair of the same class loses by what its overlap and
its two confidences are short of one; a detection without a partner is lost whole. It is what a box would
notice, for heads of every kind, and needs no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detection.detections import Detections
from detection.metrics.matching import box_iou
from detection.providers import CPU
from detection.session import Detector, DetectorOptions

_LEAST_OVERLAP = 0.3
"""Two boxes that overlap less are two boxes, not one that moved."""


def detections_of(file: Path, images: Sequence[Path], *, threads: int = 1) -> list[Detections]:
    """Return what a model file finds in image files; those that do not decode are left out."""
    detector = Detector.load(file, options=DetectorOptions(threads=threads, providers=(CPU,)))
    try:
        frames = (cv2.imread(str(image), cv2.IMREAD_COLOR) for image in images)
        shown = (np.asarray(frame, np.uint8) for frame in frames if frame is not None)
        return [detector.infer(frame).detections for frame in shown]
    finally:
        detector.close()


def disagreement(ours: Sequence[Detections], theirs: Sequence[Detections]) -> float:
    """Return the lost share of all confidence, over parallel images; nothing found by either is no loss."""
    lost = weight = 0.0
    for one, other in zip(ours, theirs, strict=True):
        image_lost, image_weight = _of_image(one, other)
        lost, weight = lost + image_lost, weight + image_weight
    return lost / weight if weight > 0.0 else 0.0


def _of_image(ours: Detections, theirs: Detections) -> tuple[float, float]:
    weight = float(ours.confidence.sum() + theirs.confidence.sum())
    if not (len(ours) and len(theirs)):
        return weight, weight
    overlap = box_iou(ours.xyxy, theirs.xyxy)
    overlap = np.where(ours.class_id[:, None] == theirs.class_id[None, :], overlap, 0.0)
    kept = 0.0
    for row in np.argsort(-ours.confidence, kind="stable"):
        best = int(overlap[row].argmax())
        if overlap[row, best] < _LEAST_OVERLAP:
            continue
        first, second = float(ours.confidence[row]), float(theirs.confidence[best])
        kept += (first + second) * float(overlap[row, best]) * (1.0 - abs(first - second))
        overlap[:, best] = 0.0
    return weight - kept, weight
