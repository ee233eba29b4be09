"""Decide on a part from what was found in its frames: accept, reject or unsure.

Pure. Runs on the box for every part and in the gate for every validation part, so escapes and
false rejects are counted on the decisions that would really be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detection.detections import Detections, Floats
from detection.errors import RulesError
from fleet_contracts.samples import DecisionRules, Verdict


class Finding(NamedTuple):
    """Name a class that speaks against a part: its best confidence, and in how many frames it counts."""

    class_name: str
    confidence: float
    frames: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold the verdict on a part and what led to it, strongest first; an accepted part has no findings."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Thresholds:
    """Hold the rules as one row per class id, (classes,) each."""

    reject_at: Floats
    unsure_at: Floats
    min_area: Floats


def decide_part(frames: Sequence[Detections], rules: DecisionRules, class_names: Sequence[str]) -> Decision:
    """Judge a part by all of its frames.

    A class rejects the part if it reaches `reject_at` in at least `min_frames` frames, and makes it
    unsure if it reaches `unsure_at` in as many. Of a part with fewer frames than that, all must show
    it. A part without any frame was not inspected and is unsure, never accepted. Boxes smaller than
    `min_area_px` do not count.

    Args:
        frames: one value per frame, in frame pixels; an empty one is a frame without findings.
        rules: must name every class of the model.
        class_names: in the order of the class ids.

    Raises:
        RulesError: a class has no rule, or a detection's class id has no name.
    """
    thresholds = _thresholds(rules, class_names)
    if not frames:
        return Decision("unsure")
    best = _best_confidence(frames, thresholds, len(class_names))
    needed = min(rules.min_frames, len(frames))
    rejecting = (best >= thresholds.reject_at).sum(axis=0)
    doubting = (best >= thresholds.unsure_at).sum(axis=0)
    if (rejecting >= needed).any():
        return Decision("reject", _findings(rejecting, needed, best, class_names))
    if (doubting >= needed).any():
        return Decision("unsure", _findings(doubting, needed, best, class_names))
    return Decision("accept")


def reject_thresholds(rules: DecisionRules, class_names: Sequence[str]) -> tuple[float, ...]:
    """Return `reject_at` of every class in the order of the class ids.

    Raises:
        RulesError: a class has no rule.
    """
    by_name = {rule.name: rule for rule in rules.classes}
    missing = [name for name in class_names if name not in by_name]
    if missing:
        raise RulesError(
            expected=f"a decision rule for each of {list(class_names)}",
            got=f"none for {missing}",
            where="decision rules",
        )
    return tuple(by_name[name].reject_at for name in class_names)


def _thresholds(rules: DecisionRules, class_names: Sequence[str]) -> _Thresholds:
    # Thresholds become float32 as the confidences are: a JSON 0.7 must be reached by a score of 0.7.
    reject_at = np.asarray(reject_thresholds(rules, class_names), np.float32)
    by_name = {rule.name: rule for rule in rules.classes}
    # Nothing was found is kept as 0.0, so a threshold of zero must not be met by it.
    floor = np.finfo(np.float32).tiny
    return _Thresholds(
        np.maximum(reject_at, floor),
        np.maximum(np.asarray([by_name[name].unsure_at for name in class_names], np.float32), floor),
        np.asarray([by_name[name].min_area_px for name in class_names], np.float32),
    )


def _best_confidence(frames: Sequence[Detections], thresholds: _Thresholds, class_count: int) -> Floats:
    """Return the best confidence of each class in each frame, (frames, classes); 0 where there is none."""
    found = Detections.concatenate(frames)
    best = np.zeros((len(frames), class_count), np.float32)
    if len(found) == 0:
        return best
    if found.class_id.min() < 0 or found.class_id.max() >= class_count:
        raise RulesError(
            expected=f"class ids below {class_count}",
            got=f"class ids {found.class_id.min()} to {found.class_id.max()}",
            where="detections",
            now="Decide with the class list of the model that made the detections.",
        )
    frame_of = np.repeat(np.arange(len(frames)), [len(frame) for frame in frames])
    counts = found.area >= thresholds.min_area[found.class_id]
    np.maximum.at(best, (frame_of[counts], found.class_id[counts]), found.confidence[counts])
    return best


def _findings(
    counted: np.typing.NDArray[np.int_], needed: int, best: Floats, class_names: Sequence[str]
) -> tuple[Finding, ...]:
    strongest = best.max(axis=0)
    findings = [
        Finding(class_names[class_id], float(strongest[class_id]), int(counted[class_id]))
        for class_id in np.flatnonzero(counted >= needed).tolist()
    ]
    return tuple(sorted(findings, key=lambda finding: -finding.confidence))
