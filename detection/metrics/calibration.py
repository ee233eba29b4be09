"""Ask whether stated confidences can be believed: of detections said to be right with 0.8, are 80 % right?

Over all detections as the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015), and at the
operating threshold as one gap: mean stated confidence minus precision, which is what a box's operator sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detection.detections import Detections
from detection.metrics.matching import Doubles, GroundTruth, match_image

_BINS = 10


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Hold how stated confidence compares with what came true; shares from 0 to 1.

    Attributes:
        detections: that reach their class's threshold.
        stated: their mean confidence.
        precision: share of them that is right.
        low: lower end of the interval of `gap`, groups drawn again and again.
        high: upper end of it.
        error: expected calibration error of all detections, in ten even bins.
        groups: that were drawn from.
    """

    detections: int
    stated: float
    precision: float
    low: float
    high: float
    error: float
    groups: int

    @property
    def gap(self) -> float:
        """Return stated confidence minus precision: above 0 the model claims too much."""
        return self.stated - self.precision


@dataclass(frozen=True, slots=True)
class Draws:
    """Say how the interval is found; the same seed gives the same one."""

    rounds: int = 1000
    confidence: float = 0.95
    seed: int = 0


def calibration(
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    thresholds: Sequence[float],
    groups: Sequence[str],
    draws: Draws | None = None,
) -> CalibrationReport:
    """Measure calibration at the operating thresholds.

    Args:
        predictions: one value per image.
        truths: in the same order.
        thresholds: by class id, as `decision.reject_thresholds` gives them.
        groups: of each image; near duplicates are drawn together.
        draws: how the interval is found.

    Raises:
        ValueError: not as many predictions as truths or groups.
    """
    how = draws or Draws()
    names, group_of = np.unique(np.asarray(groups, str), return_inverse=True)
    matched = [match_image(found, truth, (0.5,)) for found, truth in zip(predictions, truths, strict=True)]
    if len(group_of) != len(matched):
        raise ValueError(f"expected a group for each of {len(matched)} images, got {len(group_of)}")
    none = np.empty(0)
    confidence = np.concatenate([none, *(one.confidence for one in matched)]).astype(np.float64)
    right = np.concatenate([none, *(one.right[0] for one in matched)]).astype(np.float64)
    class_id = np.concatenate([none, *(one.class_id for one in matched)]).astype(np.int64)
    group = np.repeat(group_of, [len(one.confidence) for one in matched])
    at = np.asarray(thresholds, np.float32)[class_id] if len(class_id) else none
    stands = confidence.astype(np.float32) >= at
    sums = _sums_by_group(confidence[stands], right[stands], group[stands], len(names))
    count, stated, hits = sums.sum(axis=1)
    low, high = _interval(sums, how)
    return CalibrationReport(
        detections=int(count),
        stated=float(stated / count) if count else 0.0,
        precision=float(hits / count) if count else 0.0,
        low=low,
        high=high,
        error=calibration_error(confidence, right),
        groups=len(names),
    )


def calibration_error(confidence: Doubles, right: Doubles) -> float:
    """Return the mean distance of confidence and precision in even bins, weighed by their detections."""
    if not len(confidence):
        return 0.0
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    stated = np.bincount(bins, weights=confidence, minlength=_BINS)
    hits = np.bincount(bins, weights=right, minlength=_BINS)
    return float(np.abs(stated - hits).sum() / len(confidence))


def _sums_by_group(
    confidence: Doubles, right: Doubles, group: np.typing.NDArray[np.int64], groups: int
) -> Doubles:
    """Return count, summed confidence and number of right ones (rows) of each group (columns)."""
    return np.stack([
        np.bincount(group, minlength=groups).astype(np.float64),
        np.bincount(group, weights=confidence, minlength=groups),
        np.bincount(group, weights=right, minlength=groups),
    ])  # fmt: skip


def _interval(sums: Doubles, how: Draws) -> tuple[float, float]:
    groups = sums.shape[1]
    if groups == 0 or sums[0].sum() == 0:
        return -1.0, 1.0  # nothing stands: nothing is known
    drawn = np.random.default_rng(how.seed).multinomial(groups, np.full(groups, 1 / groups), size=how.rounds)
    count, stated, hits = (drawn @ row for row in sums)
    gaps = ((stated - hits) / np.maximum(count, 1.0))[count > 0]
    tail = (1.0 - how.confidence) / 2.0
    low, high = np.quantile(gaps, [tail, 1.0 - tail])
    return float(low), float(high)
