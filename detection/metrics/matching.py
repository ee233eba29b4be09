"""Match what was found in an image with what is there, the way COCO does.

Detections choose in the order of their confidence; each takes the free truth of its own class that
it overlaps most. Every figure of this package rests on these matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detection.detections import Detections, Floats, Ints, Mask
from detection.errors import ShapeError
from fleet_contracts.samples import BoxLabel

Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Hold what is known to be in one image.

    Attributes:
        xyxy: (n, 4) corners in pixels.
        class_id: (n,) below `known_classes`.
        known_classes: length of the class list the labels were made under. Nothing is known about
            later classes, so detections of them are neither right nor wrong here (law 9).

    Raises:
        ShapeError: columns that are not parallel, or a class id the labels cannot know.
    """

    xyxy: Floats
    class_id: Ints
    known_classes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, np.float32))
        object.__setattr__(self, "class_id", np.asarray(self.class_id, np.int64))
        n = self.class_id.shape[0] if self.class_id.ndim else 0
        ids_known = bool(np.all((self.class_id >= 0) & (self.class_id < self.known_classes)))
        if self.class_id.shape != (n,) or self.xyxy.shape != (n, 4) or not ids_known:
            raise ShapeError(
                expected=f"xyxy (n, 4), class_id (n,) from 0 to {self.known_classes - 1}",
                got=f"xyxy {self.xyxy.shape}, class_id {self.class_id.shape} {self.class_id.tolist()[:20]}",
                where="GroundTruth",
            )

    @classmethod
    def from_labels(
        cls, boxes: Sequence[BoxLabel], image_size: tuple[int, int], known_classes: int
    ) -> GroundTruth:
        """Read labelled boxes, which are shares of the image, as pixels; `image_size` is (width, height)."""
        shares = np.asarray([(box.cx, box.cy, box.width, box.height) for box in boxes]).reshape(-1, 4)
        corners = np.concatenate(
            (shares[:, :2] - shares[:, 2:] / 2, shares[:, :2] + shares[:, 2:] / 2), axis=1
        )
        pixels = corners * np.asarray((*image_size, *image_size))
        return cls(
            pixels.astype(np.float32), np.asarray([box.class_id for box in boxes], np.int64), known_classes
        )

    def __len__(self) -> int:
        return int(self.class_id.shape[0])

    def known_part(self, found: Detections) -> Detections:
        """Return the detections this image's labels can speak about."""
        known = found.class_id < self.known_classes
        return found if known.all() else found.select(known)


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Hold the detections of one image that count, strongest first, and whether each is right.

    Attributes:
        confidence: (n,).
        class_id: (n,).
        right: (levels, n), one row per overlap that was asked for.
    """

    confidence: Floats
    class_id: Ints
    right: Mask


def box_iou(a: Floats, b: Floats) -> Doubles:
    """Return intersection over union of every box of `a` with every box of `b`, (len(a), len(b))."""
    first, second = a.astype(np.float64)[:, None, :], b.astype(np.float64)[None, :, :]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = np.prod(first[..., 2:] - first[..., :2], axis=-1) + np.prod(
        second[..., 2:] - second[..., :2], axis=-1
    )
    union = areas - shared
    iou: Doubles = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def match_image(
    found: Detections, truth: GroundTruth, overlaps: Sequence[float], *, per_class: int = 100
) -> Matches:
    """Match one image's detections at one or more overlaps.

    Args:
        found: detections of any order; those of classes unknown to the labels are left out.
        truth: what is there.
        overlaps: lowest intersection over union of a match, one level each.
        per_class: most detections of a class that count, the strongest.
    """
    ranked = _strongest_per_class(truth.known_part(found), per_class)
    right = np.zeros((len(overlaps), len(ranked)), np.bool_)
    if len(ranked) and len(truth):
        same_class = ranked.class_id[:, None] == truth.class_id[None, :]
        iou = np.where(same_class, box_iou(ranked.xyxy, truth.xyxy), -1.0)
        # COCO takes an overlap of exactly one for any level, as rounding may fall short of it.
        levels = np.minimum(np.asarray(overlaps, np.float64), 1.0 - 1e-10)
        _choose(iou, levels, right)
    return Matches(ranked.confidence, ranked.class_id, right)


def _choose(iou: Doubles, levels: Doubles, right: Mask) -> None:
    """Let each detection in turn take its best free truth, at all levels at once; fills `right`."""
    free = np.ones((len(levels), iou.shape[1]), np.bool_)
    every = np.arange(len(levels))
    last = iou.shape[1] - 1
    for row in np.flatnonzero(iou.max(axis=1) >= levels.min()):
        options = np.where(free, iou[row], -1.0)
        # Of equal overlaps COCO takes the last truth, argmax the first: look from behind.
        best = last - options[:, ::-1].argmax(axis=1)
        taken = options[every, best] >= levels
        right[:, row] = taken
        free[every[taken], best[taken]] = False


def _strongest_per_class(found: Detections, limit: int) -> Detections:
    """Return detections by falling confidence, at most `limit` of each class; equals keep their order."""
    ranked = found.select(np.argsort(-found.confidence, kind="stable"))
    counts = np.bincount(ranked.class_id) if len(ranked) else np.zeros(1, np.int64)
    if counts.max() <= limit:
        return ranked
    within = np.empty(len(ranked), np.int64)
    for class_id in np.flatnonzero(counts):
        rows = ranked.class_id == class_id
        within[rows] = np.arange(counts[class_id])
    return ranked.select(within < limit)
