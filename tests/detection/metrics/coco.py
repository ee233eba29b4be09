"""Ask pycocotools for the same figures, through its own data structures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.detections import Detections
from detection.metrics.matching import GroundTruth


def coco_precision(
    predictions: Sequence[Detections], truths: Sequence[GroundTruth], class_count: int
) -> np.ndarray:
    """Return COCO's precision table (overlaps, recall points, classes), -1 for classes without truth."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_truth(truths, class_count), iouType="bbox")
        evaluation.cocoDt = _results(evaluation.cocoGt, predictions)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, :, 0, 2]


def _truth(truths: Sequence[GroundTruth], class_count: int) -> COCO:
    coco = COCO()
    annotations: list[dict[str, Any]] = []
    for image, truth in enumerate(truths, 1):
        annotations += [
            {
                "id": len(annotations) + index + 1,
                "image_id": image,
                "category_id": int(class_id) + 1,
                "bbox": _xywh(box),
                "area": float(_xywh(box)[2] * _xywh(box)[3]),
                "iscrowd": 0,
            }
            for index, (box, class_id) in enumerate(zip(truth.xyxy, truth.class_id, strict=True))
        ]
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(1, len(truths) + 1)],
        "categories": [{"id": class_id + 1, "name": str(class_id)} for class_id in range(class_count)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _results(coco: COCO, predictions: Sequence[Detections]) -> COCO:
    rows = [
        {
            "image_id": image,
            "category_id": int(class_id) + 1,
            "bbox": _xywh(box),
            "score": float(confidence),
        }
        for image, found in enumerate(predictions, 1)
        for box, confidence, class_id in zip(found.xyxy, found.confidence, found.class_id, strict=True)
    ]
    if rows:
        return coco.loadRes(rows)
    empty = COCO()
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
