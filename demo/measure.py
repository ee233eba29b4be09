"""Measure a model on simulated parts it has never seen, through `detection/`, as the box runs it.

Used for the first champion's record, for the report's before and after, and for the random choice
beside ours. Recall counts at the operating threshold: the confidence from which a class rejects a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.line.render import Picture, TruthBox
from demo.line.script import ALL_CLASSES, MIXES, draw_part
from detection import Detections, Detector, DetectorOptions
from detection.metrics.matching import GroundTruth
from detection.metrics.recall import RecallReport, recall_at
from detection.metrics.thresholds import choose_rules
from fleet_contracts.samples import DecisionRules

UNSEEN_SEED = 7_000_000
"""Lines are started with small seeds, so parts drawn from here on were never on a line."""
_NEVER = 1.01


@dataclass(frozen=True, slots=True)
class PartSet:
    """Name a set of simulated parts by what it is drawn from."""

    mix: str
    seed: int
    count: int

    def pictures(self) -> Iterable[Picture]:
        """Draw the parts one by one."""
        return (draw_part(MIXES[self.mix], self.seed, number) for number in range(self.count))


def ground_truth(truth: Sequence[TruthBox]) -> GroundTruth:
    """Return a picture's truth under the full class list."""
    return GroundTruth(
        xyxy=np.array([[box.x1, box.y1, box.x2, box.y2] for box in truth], np.float32).reshape(-1, 4),
        class_id=np.array([ALL_CLASSES.index(box.kind) for box in truth], np.int64),
        known_classes=len(ALL_CLASSES),
    )


def predict(onnx: Path, parts: PartSet, *, threads: int = 1) -> tuple[list[Detections], list[GroundTruth]]:
    """Run a model over a set of parts; return what it found and what is there, in frame pixels."""
    detector = Detector.load(onnx, options=DetectorOptions(threads=threads))
    try:
        found: list[Detections] = []
        truths: list[GroundTruth] = []
        for picture in parts.pictures():
            found.append(detector.infer(picture.image).detections)
            truths.append(ground_truth(picture.truth))
        return found, truths
    finally:
        detector.close()


def choose_threshold_rules(onnx: Path, parts: PartSet, class_names: Sequence[str]) -> DecisionRules:
    """Choose decision rules on a set of parts that is used for nothing else."""
    found, truths = predict(onnx, parts)
    return choose_rules(found, truths, class_names)


def thresholds_of(rules: DecisionRules) -> tuple[float, ...]:
    """Return the operating threshold of every class; a class the rules do not know is never found."""
    reject_at = {rule.name: rule.reject_at for rule in rules.classes}
    return tuple(reject_at.get(name, _NEVER) for name in ALL_CLASSES)


def measure_recall(onnx: Path, rules: DecisionRules, parts: PartSet) -> RecallReport:
    """Return recall at the operating threshold on a set of parts."""
    found, truths = predict(onnx, parts)
    return recall_at(found, truths, thresholds_of(rules))


def by_kind(report: RecallReport) -> dict[str, float]:
    """Return recall by kind, and `all`; kinds without any truth are left out."""
    kinds = {
        ALL_CLASSES[class_id]: round(float(recall), 4)
        for class_id, recall in report.recall_per_class.items()
        if report.truths_per_class.get(class_id, 0)
    }
    return {"all": round(float(report.recall), 4), **kinds}
