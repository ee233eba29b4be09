"""Decode a head that ends early: box distributions and class logits, read for the candidates alone.

A YOLO head spends a tenth of the whole network on what most grid positions need not: a softmax over each
side's distribution (DFL, distribution focal loss), the sigmoid of every class score, and copies that put the
levels behind each other. Here the logits are compared with the threshold's logit, and only positions that
reach it are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Floats, Ints
from detection.errors import ShapeError
from detection.suppression import DEFAULT_OPTIONS, DecodeOptions, require_numbers, strongest, suppress

_SMALLEST_LOGIT = np.float32(-80.0)
"""Below it exp() overflows a float32; the sigmoid is 0 there anyway."""
_NOTHING = Detections.empty()


@dataclass(frozen=True, slots=True)
class Level:
    """Say how one stride's grid lies: `stride` canvas pixels a cell, `height` by `width` cells."""

    stride: int
    height: int
    width: int

    @property
    def cells(self) -> int:
        """Return how many cells it has."""
        return self.height * self.width


class DflDecoder:
    """Read a `dfl` head with memory that is kept from frame to frame; for one thread at a time.

    Args:
        levels: the grids, in the order of the outputs.
        bins: of one side's distribution.
        classes: of the model.
        options: what counts as a detection.
    """

    def __init__(
        self, levels: Sequence[Level], bins: int, classes: int, options: DecodeOptions = DEFAULT_OPTIONS
    ) -> None:
        self._levels = tuple(levels)
        self._bins, self._classes = bins, classes
        self._options = options
        self._threshold = np.float32(_logit(options.min_confidence))
        starts = np.cumsum([0, *(level.cells for level in levels)])
        self._starts = starts[:-1].tolist()
        self._ends = starts[1:].tolist()
        self._best: Floats = np.empty(int(starts[-1]), np.float32)
        self._passes = np.empty(len(self._best), np.bool_)
        self._best_of = [self._best[start:end] for start, end in zip(self._starts, self._ends, strict=True)]
        most = min(options.max_candidates, len(self._best))
        # Scratch for the worst frame, so that a frame full of candidates allocates no more than a quiet one.
        self._sides: Floats = np.empty(4 * bins * most, np.float32)
        self._scores: Floats = np.empty(classes * most, np.float32)
        self._distances: Floats = np.arange(bins, dtype=np.float32)
        self._where = f"dfl output of {len(self._levels)} levels"

    def __call__(self, outputs: Sequence[Floats]) -> Detections:
        """Return the detections of one frame in canvas pixels; outputs are boxes and logits of each level.

        Steps: (1) the best class logit of each cell; (2) the cells that reach the threshold, the strongest
        of them; (3) class and box of these alone; (4) suppression.

        Raises:
            ShapeError: the outputs have other shapes than the levels.
            ModelOutputError: a score, or the box of a candidate, is no number.
        """
        flat = self._flattened(outputs)
        for (_, logits), best in zip(flat, self._best_of, strict=True):  # (1)
            np.maximum.reduce(logits, axis=0, out=best)
        require_numbers(self._best, self._where)
        np.greater_equal(self._best, self._threshold, out=self._passes)  # (2)
        index = self._passes.nonzero()[0]
        if len(index) == 0:
            return _NOTHING
        index = strongest(index, self._best, self._options.max_candidates)
        return suppress(self._decoded(flat, index), self._options)  # (3) and (4)

    def every_cell(self, outputs: Sequence[Floats]) -> Detections:
        """Return what each cell says, in the order of levels, rows and columns, whatever its confidence.

        For comparing models; `max_candidates` must allow for all cells.
        """
        flat = self._flattened(outputs)
        for (_, logits), best in zip(flat, self._best_of, strict=True):
            np.maximum.reduce(logits, axis=0, out=best)
        return self._decoded(flat, np.arange(len(self._best)))

    def _flattened(self, outputs: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
        """Return boxes (4 * bins, cells) and logits (classes, cells) of each level, without copying."""
        flat: list[tuple[Floats, Floats]] = []
        for level, boxes, logits in zip(self._levels, outputs[0::2], outputs[1::2], strict=True):
            grid = (level.height, level.width)
            if boxes.shape != (1, 4 * self._bins, *grid) or logits.shape != (1, self._classes, *grid):
                raise ShapeError(
                    expected=f"(1, {4 * self._bins}, {grid[0]}, {grid[1]}) and (1, {self._classes}, ...)",
                    got=f"{boxes.shape} and {logits.shape}",
                    where=self._where,
                )
            flat.append((boxes.reshape(4 * self._bins, -1), logits.reshape(self._classes, -1)))
        return flat

    def _decoded(self, flat: Sequence[tuple[Floats, Floats]], index: Ints) -> Detections:
        """Return the candidates, in the order of their index."""
        count = len(index)
        xyxy = np.empty((count, 4), np.float32)
        class_id = np.empty(count, np.int64)
        second = np.empty(count, np.float32)
        cuts = np.searchsorted(index, self._ends).tolist()
        low = 0
        for level, start, high, (boxes, logits) in zip(self._levels, self._starts, cuts, flat, strict=True):
            if high > low:
                cells = index[low:high] - start
                _boxes_at(
                    cells, level, self._taken(boxes, cells, self._sides), self._distances, xyxy[low:high]
                )
                _classes_at(self._taken(logits, cells, self._scores), class_id[low:high], second[low:high])
            low = high
        confidence = _sigmoid(self._best[index])
        return Detections(xyxy, confidence, class_id, _sigmoid(second) if self._classes > 1 else None)

    def _taken(self, columns: Floats, cells: Ints, scratch: Floats) -> Floats:
        """Copy some cells' columns into scratch memory."""
        taken = scratch[: len(columns) * len(cells)].reshape(len(columns), len(cells))
        columns.take(cells, axis=1, out=taken, mode="clip")  # any other mode goes through a buffer
        return taken


def _boxes_at(cells: Ints, level: Level, sides: Floats, distances: Floats, xyxy: Floats) -> None:
    """Turn distributions (4 * bins, n) into corners (n, 4); `sides` is overwritten."""
    bins, count = len(distances), len(cells)
    weights = sides.reshape(4, bins, count)
    weights -= weights.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    # Mean distance of each side: the weighted sum over the sum, both by one pass over the bins.
    reach = np.einsum("sbn,b->sn", weights, distances) / weights.sum(axis=1)
    x = (cells % level.width).astype(np.float32) + np.float32(0.5)
    y = (cells // level.width).astype(np.float32) + np.float32(0.5)
    np.subtract(x, reach[0], out=xyxy[:, 0])
    np.subtract(y, reach[1], out=xyxy[:, 1])
    np.add(x, reach[2], out=xyxy[:, 2])
    np.add(y, reach[3], out=xyxy[:, 3])
    xyxy *= np.float32(level.stride)


def _classes_at(logits: Floats, class_id: Ints, second: Floats) -> None:
    """Write the best class and the second-best logit of each column; `logits` (classes, n) is overwritten."""
    np.argmax(logits, axis=0, out=class_id)
    logits[class_id, np.arange(len(class_id))] = -np.inf
    np.maximum.reduce(logits, axis=0, out=second)


def _sigmoid(logits: Floats) -> Floats:
    one = np.float32(1.0)
    values: Floats = np.asarray(one / (one + np.exp(-np.maximum(logits, _SMALLEST_LOGIT))), np.float32)
    return values


def _logit(confidence: float) -> float:
    if confidence <= 0.0:
        return -math.inf
    return math.log(confidence / (1.0 - confidence)) if confidence < 1.0 else math.inf
