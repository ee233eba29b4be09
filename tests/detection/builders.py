"""Build random detections and truths from a seed."""

from __future__ import annotations

import numpy as np

from detection.detections import Detections
from detection.metrics.matching import GroundTruth


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Build detections from rows of x1 y1 x2 y2 confidence class."""
    table = np.asarray(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5])


def truth(*rows: tuple[float, float, float, float, int], known: int = 3) -> GroundTruth:
    """Build a truth from rows of x1 y1 x2 y2 class."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    return GroundTruth(table[:, :4], table[:, 4], known)


def random_scene(
    random: np.random.Generator, *, classes: int, truths: int, strays: int, grid: bool = False
) -> tuple[Detections, GroundTruth]:
    """Build an image: truths, shaken copies of them with some classes wrong, and strays.

    With `grid`, confidences are rounded to tenths and boxes to eight pixels, so that ties occur.
    """
    low = random.uniform(0, 200, (truths, 2))
    real = np.concatenate((low, low + random.uniform(4, 80, (truths, 2))), axis=1)
    real_class = random.integers(0, classes, truths)
    copies = random.integers(0, 3, truths)
    shaken = np.repeat(real, copies, axis=0)
    shaken = shaken + random.normal(0, 3.0, shaken.shape)
    shaken[:, 2:] = np.maximum(shaken[:, 2:], shaken[:, :2] + 1.0)
    wrong = random.random(len(shaken)) < 0.15
    shaken_class = np.where(wrong, random.integers(0, classes, len(shaken)), np.repeat(real_class, copies))
    stray_low = random.uniform(0, 200, (strays, 2))
    stray = np.concatenate((stray_low, stray_low + random.uniform(4, 80, (strays, 2))), axis=1)
    boxes = np.concatenate((shaken, stray))
    class_id = np.concatenate((shaken_class, random.integers(0, classes, strays)))
    confidence = random.random(len(boxes))
    if grid:
        boxes, real, confidence = _to_grid(boxes), _to_grid(real), np.round(confidence, 1)
    return Detections(boxes, confidence, class_id), GroundTruth(real, real_class, classes)


def _to_grid(boxes: np.ndarray) -> np.ndarray:
    on_grid = np.round(boxes / 8) * 8
    on_grid[:, 2:] = np.maximum(on_grid[:, 2:], on_grid[:, :2] + 8)
    return on_grid
