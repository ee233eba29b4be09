"""Turn a model's raw output into detections on its canvas, by columns, never box by box.

Four layouts are read: `end2end` (1, n, 6) of YOLO26 and YOLOv10; `dfl` of our own exports, which ends before
the boxes are decoded (`detection.dfl`); `dense` (1, 4 + classes, n) of yolov5u, YOLOv8 and YOLO11;
`objectness` (1, n, 5 + classes) of the older YOLOv5. All but the first hold many boxes per object and go
through suppression within each class. Numbers that are none are an error: a broken engine finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detection.detections import Detections, Floats, Ints
from detection.dfl import DflDecoder, Level
from detection.errors import ShapeError
from detection.suppression import (
    DEFAULT_OPTIONS,
    DecodeOptions,
    require_numbers,
    require_places,
    strongest,
    suppress,
)

if TYPE_CHECKING:
    from detection.model_file import ModelFile

__all__ = [
    "DEFAULT_OPTIONS",
    "DecodeOptions",
    "Decoder",
    "DenseDecoder",
    "decode_dense",
    "decode_end2end",
    "decode_objectness",
    "decoder_for",
]

_SCRATCH_BYTES = 16 * 1024
"""Bound on what one step may allocate; class scores of more candidates are gathered in pieces."""
Decoder = Callable[[Sequence[Floats]], Detections]
"""Reads the outputs that `InputSpec.detection_outputs` names, in that order."""


def decode_end2end(raw: Floats, options: DecodeOptions = DEFAULT_OPTIONS) -> Detections:
    """Read (1, n, 6) rows of x1 y1 x2 y2 score class; the model has suppressed doubles itself."""
    if raw.ndim != 3 or raw.shape[0] != 1 or raw.shape[2] != 6:
        raise ShapeError(expected="(1, n, 6)", got=str(raw.shape), where="end2end output")
    rows = raw[0]
    require_numbers(rows[:, 4], "end2end output")
    rows = rows[rows[:, 4] >= options.min_confidence]
    require_places(rows)
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
    require_numbers(raw[0, :, 4], "objectness output")
    index = np.flatnonzero(raw[0, :, 4] >= options.min_confidence)
    rows = raw[0, index]
    scores = rows[:, 5:] * rows[:, 4:5]
    class_id = scores.argmax(axis=1)
    best = scores[np.arange(len(index)), class_id]
    require_numbers(best, "objectness output")
    kept = strongest(np.flatnonzero(best >= options.min_confidence), best, options.max_candidates)
    found = Detections(_corners(rows[kept, :4]), best[kept], class_id[kept])
    return suppress(found, options)


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
        require_numbers(self._best, "dense output")
        np.greater_equal(self._best, self._options.min_confidence, out=self._passes)
        index = strongest(np.flatnonzero(self._passes), self._best, self._options.max_candidates)
        class_id, second = _best_classes(scores, index)
        corners = _corners(raw[0, :4].take(index, axis=1).T)
        found = Detections(corners, self._best[index], class_id, second if len(scores) > 1 else None)
        return suppress(found, self._options)


def decoder_for(model: ModelFile, options: DecodeOptions) -> Decoder:
    """Return what reads a model's detection outputs."""
    if model.layout == "end2end":
        return lambda outputs: decode_end2end(outputs[0], options)
    if model.layout == "objectness":
        return lambda outputs: decode_objectness(outputs[0], options)
    shapes = [model.output_shapes.get(name) for name in model.spec.detection_outputs]
    first = shapes[0]
    if first is None:
        return lambda outputs: decode_dense(outputs[0], options)
    if model.layout == "dfl":
        # The file's contract: static shapes, boxes and logits of one stride behind each other.
        grids = [shape for shape in shapes[0::2] if shape is not None]
        levels = [
            Level(stride, grid[2], grid[3]) for stride, grid in zip(model.spec.strides, grids, strict=True)
        ]
        return DflDecoder(levels, first[1] // 4, len(model.class_names), options)
    dense = DenseDecoder(first[2], options)
    return lambda outputs: dense(outputs[0])


def _best_classes(scores: Floats, index: Ints) -> tuple[Ints, Floats]:
    """Return the best class and the second-best score at each of the positions; scores are (classes, n)."""
    class_id = np.empty(len(index), np.int64)
    second = np.empty(len(index), np.float32)
    step = max(1, _SCRATCH_BYTES // (scores.shape[0] * scores.itemsize))
    for start in range(0, len(index), step):
        piece = slice(start, start + step)
        taken = scores.take(index[piece], axis=1)
        best = np.argmax(taken, axis=0, out=class_id[piece])
        taken[best, np.arange(taken.shape[1])] = -np.inf
        np.max(taken, axis=0, out=second[piece])
    return class_id, second


def _corners(cxcywh: Floats) -> Floats:
    """Return (n, 4) corners of boxes given by centre and size."""
    corners = np.empty((len(cxcywh), 4), np.float32)
    np.subtract(cxcywh[:, :2], cxcywh[:, 2:] / 2, out=corners[:, :2])
    np.add(corners[:, :2], cxcywh[:, 2:], out=corners[:, 2:])
    return corners
