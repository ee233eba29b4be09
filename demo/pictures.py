"""Run a model over labelled image files, through `detection/`, as the box does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.errors import BadDataset
from detection import Detections, Detector, DetectorOptions
from detection.metrics.matching import GroundTruth
from fleet_contracts.samples import BoxLabel

RANKING_CONFIDENCE = 0.001
"""Average precision needs the whole ranking, far under any threshold a box would use."""


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """Point at an image and hold its labels."""

    image: Path
    boxes: tuple[BoxLabel, ...]


@dataclass(frozen=True, slots=True)
class Predicted:
    """Hold what a model found in images and what is there, in the same order."""

    found: tuple[Detections, ...]
    truths: tuple[GroundTruth, ...]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read an image as BGR.

    Raises:
        BadDataset: the file does not decode.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise BadDataset(expected="an image that decodes", got="something else", where=str(path))
    return np.asarray(image, np.uint8)


def predict_files(onnx: Path, files: Sequence[LabelledFile], known_classes: int) -> Predicted:
    """Run a model over image files.

    Raises:
        BadDataset: a file does not decode.
    """
    detector = Detector.load(onnx, options=DetectorOptions(min_confidence=RANKING_CONFIDENCE))
    try:
        pairs = list(_predict(detector, files, known_classes))
    finally:
        detector.close()
    return Predicted(tuple(found for found, _ in pairs), tuple(truth for _, truth in pairs))


def _predict(
    detector: Detector, files: Iterable[LabelledFile], known_classes: int
) -> Iterable[tuple[Detections, GroundTruth]]:
    for file in files:
        image = read_picture(file.image)
        size = (image.shape[1], image.shape[0])
        yield detector.infer(image).detections, GroundTruth.from_labels(file.boxes, size, known_classes)
