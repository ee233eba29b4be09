"""Choose each class's operating threshold on validation data.

The gate ships these thresholds with the release, so a model is never run with another model's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detection.decision import NO_VIEW, FrameView, counting_rows
from detection.detections import Detections, Mask
from detection.errors import RulesError
from detection.metrics.average_precision import truths_per_class
from detection.metrics.matching import Doubles, GroundTruth, match_image
from fleet_contracts.samples import ClassRule, DecisionRules, Region


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
        min_area_px: least area by class name, handed on to the rules.
        regions: handed on to the rules.
        max_miss_rate: share of bad parts that may be missed, for `misses.hold_miss_rate`; None states none.
        confidence: with which the miss rate is to hold.
    """

    lowest: float = 0.1
    highest: float = 0.9
    without_truth: float = 0.5
    unsure_share: float = 0.5
    unsure_floor: float = 0.05
    iou: float = 0.5
    min_frames: int = 1
    min_area_px: Mapping[str, float] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    max_miss_rate: float | None = None
    confidence: float = 0.95


DEFAULT_OPTIONS = ThresholdOptions()


def choose_rules(
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    class_names: Sequence[str],
    options: ThresholdOptions = DEFAULT_OPTIONS,
    views: Sequence[FrameView] | None = None,
) -> DecisionRules:
    """Give each class the reject threshold with the best F1 on these images.

    F1 is flat between two scores that occur, so the middle between them (or between one and a
    bound) is taken; of equally good thresholds the lowest, because an escape costs more than a
    second look. Boxes that the rules will not look at, for their size or place, have no say.

    Args:
        predictions: what was found in each image.
        truths: what is there, in the same order.
        class_names: in the order of the class ids.
        options: how to choose, and what the rules hold beside thresholds.
        views: size and camera of each image; regions need them.

    Raises:
        ValueError: not as many predictions as truths.
        RulesError: a least area for a class that there is not, or regions and no sizes.
    """
    _require_known(options, class_names)
    if options.min_area_px or options.regions:
        open_rules = _rules(class_names, [(0.0, 0.0)] * len(class_names), options)
        of_each = views if views is not None else [NO_VIEW] * len(truths)
        looked_at = [
            _looked_at(found, truth, open_rules, class_names, view)
            for found, truth, view in zip(predictions, truths, of_each, strict=True)
        ]
        predictions, truths = [found for found, _ in looked_at], [truth for _, truth in looked_at]
    matched = [
        match_image(found, truth, (options.iou,)) for found, truth in zip(predictions, truths, strict=True)
    ]
    confidence = np.concatenate([np.empty(0), *(matches.confidence for matches in matched)])
    class_id = np.concatenate([np.empty(0, np.int64), *(matches.class_id for matches in matched)])
    right = np.concatenate([np.empty(0, np.bool_), *(matches.right[0] for matches in matched)])
    counts = truths_per_class(truths, len(class_names))
    bands = []
    for index in range(len(class_names)):
        rows = class_id == index
        reject_at = _best_threshold(confidence[rows], right[rows], int(counts[index]), options)
        unsure_at = min(reject_at, max(options.unsure_floor, round(reject_at * options.unsure_share, 4)))
        bands.append((reject_at, unsure_at))
    return _rules(class_names, bands, options)


def _rules(
    class_names: Sequence[str], bands: Sequence[tuple[float, float]], options: ThresholdOptions
) -> DecisionRules:
    """Return rules with these thresholds (reject, unsure) and all else from the options."""
    rules = (
        ClassRule(
            name=name,
            reject_at=reject_at,
            unsure_at=unsure_at,
            min_area_px=options.min_area_px.get(name, 0.0),
        )
        for name, (reject_at, unsure_at) in zip(class_names, bands, strict=True)
    )
    return DecisionRules(classes=tuple(rules), min_frames=options.min_frames, regions=options.regions)


def _require_known(options: ThresholdOptions, class_names: Sequence[str]) -> None:
    unknown = sorted(set(options.min_area_px) - set(class_names))
    if unknown:
        raise RulesError(
            expected=f"least areas for classes of {list(class_names)}",
            got=f"one for {unknown}",
            where="decision settings",
            now="Correct the name in the task's decision.min_area_px, or add the class first.",
        )


def _looked_at(
    found: Detections, truth: GroundTruth, rules: DecisionRules, class_names: Sequence[str], view: FrameView
) -> tuple[Detections, GroundTruth]:
    seen = counting_rows((found.xyxy, found.class_id), rules, class_names, view)
    there = counting_rows((truth.xyxy, truth.class_id), rules, class_names, view)
    return found.select(seen), GroundTruth(truth.xyxy[there], truth.class_id[there], truth.known_classes)


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
