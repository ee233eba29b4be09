"""Cut validation data into slices: by what members say of themselves, by camera, and by size of object.

A size is a share of the frame, so that it means the same for every camera: an object is small below 5 % of
the frame's longer side (the side of a square of its area), medium below 15 %, else large; in a frame of 640
pixels that is COCO's 32 and 96. In a slice by size, detections of other sizes are left out unless they match
an object of this size, and those that match an object of another size are left out as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Floats, Mask
from detection.metrics.matching import GroundTruth, box_iou
from fleet_contracts.training import SnapshotMember
from trainer.validation import PART_SLICE, Evaluation, clipped_truths

SIZES: tuple[tuple[str, float, float], ...] = (
    ("small", 0.0, 0.05),
    ("medium", 0.05, 0.15),
    ("large", 0.15, float("inf")),
)
_OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold one slice: the rows of the evaluation's members, and what is found and there in each."""

    name: str
    rows: tuple[int, ...]
    predictions: tuple[Detections, ...]
    truths: tuple[GroundTruth, ...]

    @property
    def truth_count(self) -> int:
        """Return how many true boxes there are."""
        return sum(len(truth) for truth in self.truths)


def slices_of(evaluation: Evaluation, classes: int) -> dict[str, Slice]:
    """Return every slice of an evaluation by name, over the first `classes` classes of the list."""
    truths = tuple(clipped_truths(evaluation, classes))
    rows: dict[str, list[int]] = {}
    for index, member in enumerate(evaluation.members):
        for key, value in _named(member).items():
            rows.setdefault(f"{key}={value}", []).append(index)
    found = {
        name: Slice(
            name,
            tuple(chosen),
            tuple(evaluation.predictions[row] for row in chosen),
            tuple(truths[row] for row in chosen),
        )
        for name, chosen in sorted(rows.items())
    }
    return found | {f"size={name}": _by_size(evaluation, truths, name) for name, _, _ in SIZES}


def _named(member: SnapshotMember) -> dict[str, str]:
    named = {key: value for key, value in member.slices.items() if key != PART_SLICE}
    return {"camera": member.camera, **named} if member.camera else named


def _by_size(evaluation: Evaluation, truths: tuple[GroundTruth, ...], size: str) -> Slice:
    low, high = next((low, high) for name, low, high in SIZES if name == size)
    predictions, kept = [], []
    for member, found, truth in zip(evaluation.members, evaluation.predictions, truths, strict=True):
        longest = max(member.width, member.height)
        of_size = _is_of_size(truth.xyxy, longest, low, high)
        looks_so = _is_of_size(found.xyxy, longest, low, high)
        predictions.append(found.select(_counts(found, truth, of_size, looks_so)))
        kept.append(GroundTruth(truth.xyxy[of_size], truth.class_id[of_size], truth.known_classes))
    rows = tuple(range(len(evaluation.members)))
    return Slice(f"size={size}", rows, tuple(predictions), tuple(kept))


def _is_of_size(xyxy: Floats, longest: int, low: float, high: float) -> Mask:
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0.0)
    share = np.sqrt(sides[:, 0] * sides[:, 1]) / longest
    mask: Mask = (share >= low) & (share < high)
    return mask


def _counts(found: Detections, truth: GroundTruth, of_size: Mask, looks_so: Mask) -> Mask:
    """Return which detections speak about a size: those that match one of it, or match none and look so."""
    if not (len(found) and len(truth)):
        return looks_so
    overlap = np.where(
        found.class_id[:, None] == truth.class_id[None, :], box_iou(found.xyxy, truth.xyxy), 0.0
    )
    matches = overlap >= _OVERLAP
    mask: Mask = np.where(matches.any(axis=1), (matches & of_size[None, :]).any(axis=1), looks_so)
    return mask
