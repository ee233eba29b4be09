"""Turn a model's raw output into detections on its canvas, by columns, never box by box.

Three layouts are read: `end2end` (1, n, 6) of YOLO26 and YOLOv10; `dense` (1, 4 + classes, n) of
yolov5u, YOLOv8 and YOLO11; `objectness` (1, n, 5 + classes) of the older YOLOv5. Dense ones still
hold many boxes per object and go through suppression within each class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from detection.detections import Detections, Floats, Ints
from detection.errors import ShapeError

_SCRATCH_BYTES = 16 * 1024
"""Bound on what one step may allocate; class scores of more candidates are gathered in pieces."""


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
Decoder = Callable[[Floats], Detections]


def decode_end2end(raw: Floats, options: DecodeOptions = DEFAULT_OPTIONS) -> Detections:
    """Read (1, n, 6) rows of x1 y1 x2 y2 score class; the model has suppressed doubles itself."""
    if raw.ndim != 3 or raw.shape[0] != 1 or raw.shape[2] != 6:
        raise ShapeError(expected="(1, n, 6)", got=str(raw.shape), where="end2end output")
    rows = raw[0]
    rows = rows[rows[:, 4] >= options.min_confidence]
    rows = rows[np.isfinite(rows).all(axis=1)]
    order = np.argsort(-rows[:, 4], kind="stable")[: options.max_detections]
    rows = rows[order]
    return Detections(rows[:, :4], np.minimum(rows[:, 4], 1.0), rows[:, 5].astype(np.int64))


def decode_dense(raw: Floats, options: DecodeOptions = DEFAULT_OPTIONS) -> Detections:
    """Read (1, 4 + classes, n) columns of centre, size and class scores, all in canvas pixels."""
    if raw.ndim != 3 or raw.shape[0] != 1 or raw.shape[1] < 5:
        raise ShapeError(expected="(1, 4 + classes, n)", got=str(raw.shape), where="dense output")
    return DenseDecoder(raw.shape[2], options)(raw)


def decode_objectness(raw: Floats, options: DecodeOptions = DEFAULT_OPTIONS) -> Detections:
    """Read (1, n, 5 + classes) rows of centre, size, objectness and class scores, in canvas pixels."""
    if raw.ndim != 3 or raw.shape[0] != 1 or raw.shape[2] < 6:
        raise ShapeError(expected="(1, n, 5 + classes)", got=str(raw.shape), where="objectness output")
    index = np.flatnonzero(raw[0, :, 4] >= options.min_confidence)
    rows = raw[0, index]
    scores = rows[:, 5:] * rows[:, 4:5]
    class_id = scores.argmax(axis=1)
    best = scores[np.arange(len(index)), class_id]
    kept = _strongest(np.flatnonzero(best >= options.min_confidence), best, options.max_candidates)
    return _suppress(rows[kept, :4], best[kept], class_id[kept], options)


class DenseDecoder:
    """Read dense output of one fixed length with memory that is kept from frame to frame.

    Args:
        positions: n, the number of grid positions of the head.
        options: what counts as a detection.
    """

    def __init__(self, positions: int, options: DecodeOptions = DEFAULT_OPTIONS) -> None:
        self._options = options
        self._best: Floats = np.empty(positions, np.float32)
        self._passes = np.empty(positions, np.bool_)

    def __call__(self, raw: Floats) -> Detections:
        """Return the detections of one frame; `raw` is (1, 4 + classes, n) and is not kept."""
        if raw.ndim != 3 or raw.shape[0] != 1 or raw.shape[1] < 5 or raw.shape[2] != len(self._best):
            raise ShapeError(
                expected=f"(1, 4 + classes, {len(self._best)})", got=str(raw.shape), where="dense output"
            )
        scores = raw[0, 4:]
        np.max(scores, axis=0, out=self._best)
        np.greater_equal(self._best, self._options.min_confidence, out=self._passes)
        index = _strongest(np.flatnonzero(self._passes), self._best, self._options.max_candidates)
        boxes = raw[0, :4].take(index, axis=1).T
        return _suppress(boxes, self._best[index], _best_class(scores, index), self._options)


def decoder_for(layout: str, positions: int | None, options: DecodeOptions) -> Decoder:
    """Return what reads a model's output; `positions` is None where the graph leaves it open."""
    if layout == "end2end":
        return lambda raw: decode_end2end(raw, options)
    if layout == "objectness":
        return lambda raw: decode_objectness(raw, options)
    if positions is None:
        return lambda raw: decode_dense(raw, options)
    return DenseDecoder(positions, options)


def _strongest(index: Ints, scores: Floats, limit: int) -> Ints:
    """Return at most `limit` of the indices, those of the highest scores, in their order."""
    if len(index) <= limit:
        return index
    cut = np.argpartition(-scores[index], limit - 1)[:limit]
    return np.sort(index[cut])


def _best_class(scores: Floats, index: Ints) -> Ints:
    """Return the class of the highest score at each of the positions; scores are (classes, n)."""
    class_id = np.empty(len(index), np.int64)
    step = max(1, _SCRATCH_BYTES // (scores.shape[0] * scores.itemsize))
    for start in range(0, len(index), step):
        piece = index[start : start + step]
        np.argmax(scores.take(piece, axis=1), axis=0, out=class_id[start : start + step])
    return class_id


def _suppress(cxcywh: Any, confidence: Floats, class_id: Ints, options: DecodeOptions) -> Detections:
    """Keep the strongest of overlapping boxes of one class, strongest first."""
    finite = np.isfinite(cxcywh).all(axis=1)
    if not finite.all():
        cxcywh, confidence, class_id = cxcywh[finite], confidence[finite], class_id[finite]
    if len(confidence) == 0:
        return Detections.empty()
    corners = cxcywh[:, :2] - cxcywh[:, 2:] / 2
    # OpenCV keeps classes apart by moving them away from zero, which boxes left of zero would undo.
    boxes = np.concatenate((corners - corners.min(axis=0), cxcywh[:, 2:]), axis=1, dtype=np.float64)
    suppress: Any = cv2.dnn.NMSBoxesBatched  # takes arrays, though its stub speaks of sequences
    # Doubles and 32-bit ids are what OpenCV keeps; of other types it converts number by number.
    chosen = suppress(boxes, confidence, class_id.astype(np.int32), 0.0, options.iou)
    kept = np.asarray(chosen, np.int64)[: options.max_detections]
    xyxy = np.concatenate((corners, corners + cxcywh[:, 2:]), axis=1)[kept]
    return Detections(xyxy, np.minimum(confidence[kept], 1.0), class_id[kept])
