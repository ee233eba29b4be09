"""Draw images with as many boxes as a crash asks for: rectangles on noise, no larger than there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from fleet_contracts.samples import BoxLabel
from trainer.dataset import DatasetItem

NAMES = ("bright", "dark")
LARGEST, SMALLEST = 120, 4
"""Sides of a box in pixels."""


def crowded_items(size: int, train: tuple[int, int], val: tuple[int, int]) -> Iterator[DatasetItem]:
    """Draw training images and, after them, validation images; of each how many, and with how many boxes."""
    (images, train_boxes), (more, val_boxes) = train, val
    for number in range(images + more):
        split = "train" if number < images else "val"
        boxes = train_boxes if split == "train" else val_boxes
        image, labels = _scene(np.random.default_rng([boxes, size, number]), boxes, size)
        content = cv2.imencode(".jpg", image)[1].tobytes()
        yield DatasetItem(f"crowd-{number:04d}", content, labels, len(NAMES), split)


def _scene(random: np.random.Generator, boxes: int, size: int) -> tuple[Any, tuple[BoxLabel, ...]]:
    image = random.integers(90, 130, (size, size, 3), dtype=np.uint8)
    # Boxes share the image: the more there are, the smaller each one is.
    side = int(np.clip(size / np.sqrt(boxes), SMALLEST + 1, min(LARGEST, size // 3)))
    labels = []
    for _ in range(boxes):
        kind = int(random.integers(len(NAMES)))
        width, height = random.integers(max(SMALLEST, side // 2), side + 1, 2).tolist()
        x, y = int(random.integers(0, size - width)), int(random.integers(0, size - height))
        colour = (230, 230, 230) if kind == 0 else (20, 20, 20)
        cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
        labels.append(BoxLabel(class_id=kind, cx=(x + width / 2) / size, cy=(y + height / 2) / size,
                               width=width / size, height=height / size))  # fmt: skip
    return image, tuple(labels)
