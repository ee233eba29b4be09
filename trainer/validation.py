"""Measure a model on labelled members through `detection/`, the code that runs and decides on the box.

No torch here: what is measured is the very ONNX file that ships (law 6). Unverified labels are left out
(law 4), and classes that a member's labels say nothing about are neither right nor wrong (law 9).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from detection.decision import FrameView, reject_thresholds
from detection.detections import Detections
from detection.metrics.average_precision import ApReport, average_precision
from detection.metrics.matching import GroundTruth
from detection.metrics.misses import MissLimit, MissReport, Shown, hold_miss_rate
from detection.metrics.parts import PartReport, decide_parts, part_report
from detection.metrics.recall import RecallReport, recall_at
from detection.metrics.thresholds import DEFAULT_OPTIONS, ThresholdOptions, choose_rules
from detection.session import Detector, DetectorOptions
from fleet_contracts.errors import ClassListConflict
from fleet_contracts.samples import ClassList, DecisionRules
from fleet_contracts.training import SnapshotMember
from trainer.errors import DatasetRefused

MIN_CONFIDENCE = 0.01
"""Lower than on the box: the precision curve needs the tail."""
PART_SLICE = "part"
"""Slice that names a member's part where several frames show one; else a frame is a part."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold a model's detections on members beside the truth, both in pixels of the stored image."""

    model_id: str
    class_names: tuple[str, ...]
    """What the model knows: the class list, or a prefix of it for an older champion."""
    class_count: int
    """Length of the list that is measured against."""
    members: tuple[SnapshotMember, ...]
    predictions: tuple[Detections, ...]
    truths: tuple[GroundTruth, ...]
    rules: DecisionRules
    ap: ApReport
    recall: RecallReport
    parts: PartReport
    slices: dict[str, ApReport]
    """Average precision by `key=value` of the members' slices."""
    misses: MissReport | None = None
    """How a stated miss rate was held, where thresholds were chosen for one."""


def evaluate_model(
    onnx_path: Path,
    members: Iterable[SnapshotMember],
    image_of: Callable[[str], bytes],
    class_list: ClassList,
    *,
    rules: DecisionRules | ThresholdOptions = DEFAULT_OPTIONS,
) -> Evaluation:
    """Run a model on members and measure it.

    Args:
        onnx_path: the file that ships.
        members: labelled images; unverified ones are left out.
        image_of: the encoded image of a sample id.
        class_list: the fleet's list; the model must know it or a prefix of it.
        rules: decision rules of the model, or how to choose them on these very members.

    Raises:
        ClassListConflict: the file's classes are no prefix of the list.
        DatasetRefused: an image does not decode.
        ModelFileError: not a model that boxes can run (from `detection`).
        RulesError: the rules do not fit the model's classes (from `detection`).
    """
    detector = Detector.load(onnx_path, options=_options())
    try:
        _require_prefix(detector.class_names, class_list, where=str(onnx_path))
        rows = tuple(member for member in members if member.verified)
        predictions = tuple(_detect(detector, member, image_of) for member in rows)
    finally:
        detector.close()
    truths = tuple(truth_of(member) for member in rows)
    misses: MissReport | None = None
    if isinstance(rules, ThresholdOptions):
        rules, misses = _chosen(rules, tuple(detector.class_names), (rows, predictions, truths))
    found = (rows, predictions, truths)
    return replace(
        measure(detector.model_id, tuple(detector.class_names), class_list, found, rules), misses=misses
    )


def _chosen(
    options: ThresholdOptions,
    names: tuple[str, ...],
    found: tuple[tuple[SnapshotMember, ...], tuple[Detections, ...], tuple[GroundTruth, ...]],
) -> tuple[DecisionRules, MissReport | None]:
    """Choose decision rules on what was found, then move them to hold a miss rate if one is stated."""
    rows, predictions, truths = found
    known = [_clipped(truth, len(names)) for truth in truths]
    rules = choose_rules(predictions, known, names, options, [view_of(member) for member in rows])
    if options.max_miss_rate is None:
        return rules, None
    limit = MissLimit(options.max_miss_rate, options.confidence, options.unsure_floor)
    frames = [
        Shown(part_of(member), member.group_id, seen, truth, view_of(member))
        for member, seen, truth in zip(rows, predictions, truths, strict=True)
    ]
    return hold_miss_rate(frames, rules, names, limit)


def measure(
    model_id: str,
    class_names: tuple[str, ...],
    class_list: ClassList,
    found: tuple[tuple[SnapshotMember, ...], tuple[Detections, ...], tuple[GroundTruth, ...]],
    rules: DecisionRules,
) -> Evaluation:
    """Measure detections that were made already, as `evaluate_model` does; `found` are parallel columns."""
    members, predictions, truths = found
    count = len(class_list.names)
    # A class the model has never heard of is never found: no detection reaches a threshold above one.
    thresholds = (*reject_thresholds(rules, class_names), *([2.0] * (count - len(class_names))))
    frames = [
        (part_of(member), seen, truth)
        for member, seen, truth in zip(members, predictions, truths, strict=True)
    ]
    decisions, bad = decide_parts(frames, rules, class_names, [view_of(member) for member in members])
    return Evaluation(
        model_id=model_id,
        class_names=class_names,
        class_count=count,
        members=members,
        predictions=predictions,
        truths=truths,
        rules=rules,
        ap=average_precision(predictions, truths, count),
        recall=recall_at(predictions, truths, thresholds),
        parts=part_report(decisions, bad),
        slices=_slices(members, predictions, truths, count),
    )


def subset(evaluation: Evaluation, keep: Sequence[bool], class_list: ClassList) -> Evaluation:
    """Measure again on the members for which `keep` is true."""
    rows = [index for index, kept in enumerate(keep) if kept]
    return measure(
        evaluation.model_id,
        evaluation.class_names,
        class_list,
        (
            tuple(evaluation.members[row] for row in rows),
            tuple(evaluation.predictions[row] for row in rows),
            tuple(evaluation.truths[row] for row in rows),
        ),
        evaluation.rules,
    )


def truth_of(member: SnapshotMember) -> GroundTruth:
    """Return what is known of a member, in pixels."""
    return GroundTruth.from_labels(member.boxes, (member.width, member.height), member.class_count)


def part_of(member: SnapshotMember) -> str:
    """Return the part that a member shows: the one it names, else its own."""
    return member.slices.get(PART_SLICE, member.sample_id)


def view_of(member: SnapshotMember) -> FrameView:
    """Return the size and camera of a member's image, as the box would know them."""
    return FrameView((member.width, member.height), member.camera)


def clipped_truths(evaluation: Evaluation, classes: int) -> list[GroundTruth]:
    """Return the truths as if the list had ended after `classes` names, to compare with an older champion."""
    return [_clipped(truth, classes) for truth in evaluation.truths]


def _clipped(truth: GroundTruth, classes: int) -> GroundTruth:
    kept = truth.class_id < classes
    return GroundTruth(truth.xyxy[kept], truth.class_id[kept], min(truth.known_classes, classes))


def _options() -> DetectorOptions:
    return DetectorOptions(threads=len(os.sched_getaffinity(0)), min_confidence=MIN_CONFIDENCE)


def _detect(detector: Detector, member: SnapshotMember, image_of: Callable[[str], bytes]) -> Detections:
    frame = cv2.imdecode(np.frombuffer(image_of(member.sample_id), np.uint8), cv2.IMREAD_COLOR)
    if frame is None:
        raise DatasetRefused(
            expected="an image that decodes", got="bytes that do not", where=f"sample {member.sample_id}"
        )
    return detector.infer(np.asarray(frame, np.uint8)).detections


def _require_prefix(names: Sequence[str], class_list: ClassList, *, where: str) -> None:
    if tuple(names) != class_list.names[: len(names)]:
        raise ClassListConflict(
            expected=f"a model of {list(class_list.names)} or of a prefix of it",
            got=f"{list(names)}",
            where=where,
            now="Train a model for this fleet's class list.",
        )


def _slices(
    members: Sequence[SnapshotMember],
    predictions: Sequence[Detections],
    truths: Sequence[GroundTruth],
    count: int,
) -> dict[str, ApReport]:
    rows: dict[str, list[int]] = {}
    for index, member in enumerate(members):
        for key, value in member.slices.items():
            if key != PART_SLICE:
                rows.setdefault(f"{key}={value}", []).append(index)
    return {
        name: average_precision([predictions[i] for i in chosen], [truths[i] for i in chosen], count)
        for name, chosen in sorted(rows.items())
    }
