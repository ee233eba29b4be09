"""Write into the exported ONNX file what its training knew, so that a box can tell what is new to the model.

(1) Run the very file that ships, through `detection/`, on training images.
(2) Standardise the feature vectors and place k centroids among them.
(3) Measure how far images lie that the centroids were not placed by: those distances are the scale.
(4) Write all of it into the file's metadata, before the file is hashed (law 6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from detection.novelty import (
    FEATURES_KEY,
    MAX_CENTROIDS,
    MAX_JSON_BYTES,
    QUANTILES,
    FeatureReference,
    FeatureSpace,
)
from detection.session import Detector, DetectorOptions
from trainer.backend_job import write_whole
from trainer.dataset import INDEX_FILE

MOST_IMAGES = 256
LEAST_IMAGES = 10
"""Fewer say nothing about what is usual."""
_PER_CENTROID = 8
_FOLDS = 5
_ROUNDS = 25
_MOST_FLOAT16 = 60_000.0
_LEAST_DISTANCE = 1e-3
"""In spreads; below it all images are copies of a few, and what is left is rounding."""
_SMALLEST_SPREAD = 0.1
"""Of a dimension, as a share of the median one: one that hardly moves in training must not decide alone."""
Array = npt.NDArray[np.float64]


def train_files(folder: Path, limit: int = MOST_IMAGES) -> list[Path]:
    """Choose training images evenly from a dataset's index; the same dataset gives the same images."""
    rows = json.loads((folder / INDEX_FILE).read_text())["items"]
    files = sorted(row["file"] for row in rows if row["split"] == "train")
    chosen = np.unique(np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int))
    return [folder / files[number] for number in chosen.tolist()]


def add_reference(onnx_file: Path, images: Sequence[Path], *, threads: int = 1) -> FeatureReference | None:
    """Write a feature reference into an exported file; None, and the file as it was, where there can be none.

    That is where the model gives no features, the images are too few, or all of them look the same to it.
    """
    # (1)
    vectors = _vectors(onnx_file, images, threads)
    # (2) and (3)
    reference = reference_of(vectors)
    if reference is None:
        return None
    # (4)
    _write_property(onnx_file, reference.to_json())
    return reference


def reference_of(vectors: Sequence[npt.NDArray[np.float32]]) -> FeatureReference | None:
    """Describe feature vectors of training; the same vectors give the same reference."""
    if len(vectors) < LEAST_IMAGES:
        return None
    rows = np.asarray(vectors, np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    count = _centroid_count(len(rows), rows.shape[1])
    spread = rows.std(axis=0) if len(rows) else np.zeros(0)
    if len(rows) < LEAST_IMAGES or count < 1 or not spread.any():
        return None
    floor = _SMALLEST_SPREAD * float(np.median(spread[spread > 0]))
    scale = 1.0 / np.maximum(spread, floor)
    if max(float(scale.max()), float(np.abs(rows).max())) > _MOST_FLOAT16:
        return None
    space = FeatureSpace(rows.mean(axis=0).astype(np.float32), scale.astype(np.float32))
    points = space.place(rows.astype(np.float32)).astype(np.float64)
    low, high, most = (float(one) for one in np.quantile(_held_out(points, count), QUANTILES))
    if not most >= _LEAST_DISTANCE:
        return None
    found = FeatureReference.build(space, _centroids(points, count), (low, high, most), where="export")
    # As the box will read it, rounded to float16; what does not survive that is an error here, not there.
    return FeatureReference.from_json(found.to_json(), where="export")


def _vectors(onnx_file: Path, images: Iterable[Path], threads: int) -> list[npt.NDArray[np.float32]]:
    detector = Detector.load(onnx_file, options=DetectorOptions(threads=threads))
    try:
        found = []
        for file in images:
            frame = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if frame is None:
                continue
            features = detector.infer(np.asarray(frame, np.uint8)).features
            if features is None:
                return []
            found.append(features)
        return found
    finally:
        detector.close()


def _centroid_count(images: int, dimensions: int) -> int:
    """Return how many centroids the images support and the property has room for."""
    room = MAX_JSON_BYTES * 3 // 4 // (2 * max(dimensions, 1)) - 4
    return min(MAX_CENTROIDS, max(images // _PER_CENTROID, 1), room)


def _held_out(points: Array, count: int) -> Array:
    """Return every point's distance to centroids that were placed without it."""
    fold = np.arange(len(points)) % _FOLDS
    distances = np.zeros(len(points))
    for number in range(_FOLDS):
        here = fold == number
        placed = _centroids(points[~here], min(count, int((~here).sum())))
        distances[here] = np.sqrt(_squared(points[here], placed).min(axis=1))
    return distances


def _centroids(points: Array, count: int) -> Array:
    """Place centroids by k-means, seeded alike each time."""
    random = np.random.default_rng(0)
    chosen = [int(random.integers(len(points)))]
    for _ in range(count - 1):
        far = _squared(points, points[chosen]).min(axis=1)
        if not far.sum() > 0:
            break
        chosen.append(int(random.choice(len(points), p=far / far.sum())))
    centroids = points[chosen].copy()
    for _ in range(_ROUNDS):
        nearest = _squared(points, centroids).argmin(axis=1)
        moved = np.stack(
            [points[nearest == one].mean(axis=0) if (nearest == one).any() else centroids[one]
             for one in range(len(centroids))]
        )  # fmt: skip
        if np.allclose(moved, centroids):
            break
        centroids = moved
    return centroids


def _squared(points: Array, centroids: Array) -> Array:
    squared: Array = (
        (points**2).sum(axis=1)[:, None] - 2.0 * points @ centroids.T + (centroids**2).sum(axis=1)[None, :]
    )
    return np.maximum(squared, 0.0)


def _write_property(onnx_file: Path, text: str) -> None:
    import onnx

    graph = onnx.load(str(onnx_file))
    kept = [(entry.key, entry.value) for entry in graph.metadata_props if entry.key != FEATURES_KEY]
    del graph.metadata_props[:]
    for key, value in (*kept, (FEATURES_KEY, text)):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    write_whole(onnx_file, graph.SerializeToString(deterministic=True))
