"""Say how sure a difference between two models is, by drawing the images again and again.

Groups (near duplicates, bursts) are drawn whole, the same ones for both models. Every image is matched
once; a draw only weighs the matches, so a thousand rounds take a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detection.detections import Detections
from detection.metrics.matching import GroundTruth, match_image

Doubles: TypeAlias = npt.NDArray[np.float64]
_IOU = 0.5
_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Interval:
    """Hold a measured difference and the bounds it lies between with the asked confidence."""

    value: float
    low: float
    high: float
    rounds: int
    groups: int


@dataclass(frozen=True, slots=True)
class _Column:
    """Hold one model's matches of one class, strongest first: the image and whether it is right."""

    image: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]


def map50_difference(
    candidate: Sequence[Detections],
    champion: Sequence[Detections],
    truths: Sequence[GroundTruth],
    groups: Sequence[str],
    *,
    rounds: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return mAP50 of the candidate minus the champion's, with its bootstrap interval.

    Args:
        candidate: detections by image.
        champion: detections on the same images.
        truths: in the same order.
        groups: group of each image.
        rounds: draws.
        confidence: share of the draws that the interval holds.
        seed: of the draws; the same one gives the same interval.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / max(len(names), 1)), size=rounds
    )
    weights = np.vstack([np.ones(len(truths)), drawn[:, group_of]]).astype(np.float64)
    there = _truth_counts(truths)
    difference = _map50(candidate, truths, there, weights) - _map50(champion, truths, there, weights)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(difference[1:], [tail, 1.0 - tail])
    return Interval(float(difference[0]), float(low), float(high), rounds, len(names))


def _truth_counts(truths: Sequence[GroundTruth]) -> Doubles:
    """Return true boxes by class and image."""
    classes = max((truth.known_classes for truth in truths), default=0)
    counts = np.zeros((classes, len(truths)))
    for image, truth in enumerate(truths):
        counts[:, image] += np.bincount(truth.class_id, minlength=classes)[:classes]
    return counts


def _map50(
    predictions: Sequence[Detections], truths: Sequence[GroundTruth], there: Doubles, weights: Doubles
) -> Doubles:
    """Return mAP50 of every round; classes without truths in a round do not enter its mean."""
    columns = _columns(predictions, truths, len(there))
    total = np.zeros(len(weights))
    present = np.zeros(len(weights))
    for class_id, column in enumerate(columns):
        truth_count = weights @ there[class_id]
        has = truth_count > 0
        total[has] += _ap50(column, weights[has], truth_count[has])
        present += has
    return np.divide(total, present, out=np.zeros_like(total), where=present > 0)


def _columns(predictions: Sequence[Detections], truths: Sequence[GroundTruth], classes: int) -> list[_Column]:
    matched = [match_image(found, truth, (_IOU,)) for found, truth in zip(predictions, truths, strict=True)]
    image = np.concatenate(
        [np.empty(0, np.int64), *(np.full(len(m.confidence), i) for i, m in enumerate(matched))]
    )
    score = np.concatenate([np.empty(0), *(m.confidence for m in matched)])
    class_id = np.concatenate([np.empty(0, np.int64), *(m.class_id for m in matched)])
    right = np.concatenate([np.empty(0, np.bool_), *(m.right[0] for m in matched)])
    columns = []
    for wanted in range(classes):
        rows = np.flatnonzero(class_id == wanted)
        rows = rows[np.argsort(-score[rows], kind="stable")]
        columns.append(_Column(image[rows], right[rows]))
    return columns


def _ap50(column: _Column, weights: Doubles, truth_count: Doubles) -> Doubles:
    """Return 101-point AP of one class for every round."""
    if not len(column.image):
        return np.zeros(len(weights))
    drawn = weights[:, column.image]
    right = np.cumsum(drawn * column.right, axis=1)
    seen = np.cumsum(drawn, axis=1)
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / truth_count[:, None]
    ap = np.zeros(len(weights))
    for index in range(len(weights)):
        at = np.searchsorted(recall[index], _POINTS, side="left")
        ap[index] = np.append(envelope[index], 0.0)[at].mean()
    return ap
