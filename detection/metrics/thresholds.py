"""Choose each class's operating threshold on validation data.

The gate ships these thresholds with the release, so a model is never run with another model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.detections import Detections, Mask
from detection.metrics.average_precision import truths_per_class
from detection.metrics.matching import Doubles, GroundTruth, match_image
from fleet_contracts.samples import ClassRule, DecisionRules


@dataclass(frozen=True, slots=True)
class ThresholdOptions:
    """Say how thresholds are chosen.

    Attributes:
        lowest: bound that no threshold goes below.
        highest: bound that no threshold exceeds.
        without_truth: threshold of a class that the data do not show.
        unsure_share: part of the reject threshold from which a part is unsure.
        unsure_floor: lowest threshold for unsure.
        iou: lowest overlap of a match.
        min_frames: handed on to the rules.
    """

    lowest: float = 0.1
    highest: float = 0.9
    without_truth: float = 0.5
    unsure_share: float = 0.5
    unsure_floor: float = 0.05
    iou: float = 0.5
    min_frames: int = 1


DEFAULT_OPTIONS = ThresholdOptions()


def choose_rules(
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    class_names: Sequence[str],
    options: ThresholdOptions = DEFAULT_OPTIONS,
) -> DecisionRules:
    """Give each class the reject threshold with the best F1 on these images.

    F1 is flat between two scores that occur, so the middle between them (or between one and a
    bound) is taken; of equally good thresholds the lowest, because an escape costs more than a
    second look.

    Raises:
        ValueError: not as many predictions as truths.
    """
    matched = [
        match_image(found, truth, (options.iou,)) for found, truth in zip(predictions, truths, strict=True)
    ]
    confidence = np.concatenate([np.empty(0), *(matches.confidence for matches in matched)])
    class_id = np.concatenate([np.empty(0, np.int64), *(matches.class_id for matches in matched)])
    right = np.concatenate([np.empty(0, np.bool_), *(matches.right[0] for matches in matched)])
    counts = truths_per_class(truths, len(class_names))
    rules = []
    for index, name in enumerate(class_names):
        rows = class_id == index
        reject_at = _best_threshold(confidence[rows], right[rows], int(counts[index]), options)
        unsure_at = min(reject_at, max(options.unsure_floor, round(reject_at * options.unsure_share, 4)))
        rules.append(ClassRule(name=name, reject_at=reject_at, unsure_at=unsure_at))
    return DecisionRules(classes=tuple(rules), min_frames=options.min_frames)


def _best_threshold(confidence: Doubles, right: Mask, truth_count: int, options: ThresholdOptions) -> float:
    if truth_count == 0:
        return options.without_truth
    scores = np.unique(confidence)
    inside = scores[(scores > options.lowest) & (scores < options.highest)]
    edges = np.concatenate(([options.lowest], inside, [options.highest]))
    candidates = (edges[1:] + edges[:-1]) / 2
    wrong = _at_or_above(confidence[~right], candidates)
    hits = _at_or_above(confidence[right], candidates)
    f1 = 2 * hits / (hits + wrong + truth_count)
    if f1.max() == 0.0:
        return options.without_truth
    return round(float(candidates[int(f1.argmax())]), 4)


def _at_or_above(scores: Doubles, candidates: Doubles) -> Doubles:
    """Count the scores that each candidate threshold lets through."""
    ordered = np.sort(scores)
    return (len(ordered) - np.searchsorted(ordered, candidates, side="left")).astype(np.float64)
