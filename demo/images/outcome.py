"""Measure the demo on real images once the verdict stands: `new_val` and `base_val` are read here alone.

Before and after are measured through `detection/`, each model with the thresholds it was judged with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.errors import StationStuck
from demo.images.layout import ImageFolder, ImageRow
from demo.images.settings import ImagesSettings
from demo.loop.glance import Glance, look
from demo.loop.served import ServedModel, fetch_served
from demo.loop.state import DemoState
from demo.pictures import LabelledFile, Predicted, predict_files, read_picture
from demo.report.pictures import Compared, choose_most_changed
from detection import Detections
from detection.metrics.average_precision import average_precision
from detection.metrics.recall import recall_at
from fleet_contracts import decode, keys
from fleet_contracts.judging import Candidate
from fleet_contracts.samples import DecisionRules
from flows.context import Context
from flows.files import write_file
from flows.retrain.candidates import onnx_name
from flows.tracking.gather import story_of
from flows.tracking.story import Story

_PICTURES = 6


@dataclass(frozen=True, slots=True)
class SplitFigures:
    """Hold a model's figures on one split, from 0 to 1; recall at the operating threshold."""

    map50: float
    map50_95: float
    recall: float
    false_positives: int
    ap50_per_class: dict[str, float]
    map50_per_board: dict[str, float]


@dataclass(frozen=True, slots=True)
class ImagesOutcome:
    """Hold everything the report tells of a demo on real images; figures by split."""

    promoted: bool
    before: dict[str, SplitFigures]
    after: dict[str, SplitFigures]
    pictures: tuple[Compared, ...]
    glance: Glance
    run: Story
    seconds: float


def measure_images(
    ctx: Context, settings: ImagesSettings, data: ImageFolder, state: DemoState, work: Path
) -> ImagesOutcome:
    """Measure a demo whose run is closed."""
    glance = look(ctx, settings.task_id)
    assert state.base_version is not None
    before = fetch_served(ctx, settings.task_id, settings.channel, state.base_version, work)
    after = _candidate_model(ctx, settings, glance, work)
    figures: dict[str, tuple[SplitFigures, SplitFigures]] = {}
    compared: list[Compared] = []
    for split in ("new_val", "base_val"):
        rows = data.split(split)
        files = [LabelledFile(row.image, row.boxes()) for row in rows]
        old = predict_files(before.onnx, files, len(data.class_names))
        new = predict_files(after.onnx, files, len(data.class_names))
        names = data.class_names
        figures[split] = (_figures(old, before.rules, names, rows), _figures(new, after.rules, names, rows))
        if split == "new_val":
            compared = _compare(rows, (old, before.rules), (new, after.rules), names)
    assert state.first_frame_at is not None
    assert state.served_at is not None
    return ImagesOutcome(
        promoted=state.new_version is not None,
        before={split: pair[0] for split, pair in figures.items()},
        after={split: pair[1] for split, pair in figures.items()},
        pictures=tuple(compared),
        glance=glance,
        run=story_of(ctx, settings.task_id, glance.run.run_id),
        seconds=(state.served_at - state.first_frame_at).total_seconds(),
    )


def _candidate_model(ctx: Context, settings: ImagesSettings, glance: Glance, work: Path) -> ServedModel:
    """Fetch the candidate as it was judged, promoted or not."""
    if glance.candidate is None or glance.gate is None:
        raise StationStuck(expected="a judged candidate", got="none", where=settings.task_id)
    gate = glance.gate
    onnx = work / "candidate.onnx"
    candidate_id = glance.candidate.candidate_id
    described = keys.candidate(settings.task_id, candidate_id, "candidate.json")
    candidate = decode(Candidate, ctx.store.get(described), where=described)
    name = onnx_name(candidate, gate.candidate_model)
    write_file(onnx, ctx.store.get(keys.candidate(settings.task_id, candidate_id, name)))
    names = tuple(rule.name for rule in gate.decision_rules.classes)
    return ServedModel(glance.candidate.release_version or 0, onnx, gate.decision_rules, names)


def _figures(
    predicted: Predicted, rules: DecisionRules, names: Sequence[str], rows: Sequence[ImageRow]
) -> SplitFigures:
    precision = average_precision(predicted.found, predicted.truths, len(names))
    recall = recall_at(predicted.found, predicted.truths, _thresholds(rules, names))
    return SplitFigures(
        map50=precision.map50,
        map50_95=precision.map50_95,
        recall=recall.recall,
        false_positives=recall.false_positives,
        ap50_per_class={names[index]: value for index, value in precision.ap50_per_class.items()},
        map50_per_board={
            board: _map50_of_board(predicted, [row.board == board for row in rows], len(names))
            for board in sorted({row.board for row in rows})
        },
    )


def _map50_of_board(predicted: Predicted, shows: Sequence[bool], classes: int) -> float:
    found = [one for one, here in zip(predicted.found, shows, strict=True) if here]
    truths = [one for one, here in zip(predicted.truths, shows, strict=True) if here]
    return average_precision(found, truths, classes).map50


def _thresholds(rules: DecisionRules, names: Sequence[str]) -> tuple[float, ...]:
    reject_at = {rule.name: rule.reject_at for rule in rules.classes}
    return tuple(reject_at[name] for name in names)


def _compare(
    rows: Sequence[ImageRow],
    old: tuple[Predicted, DecisionRules],
    new: tuple[Predicted, DecisionRules],
    names: Sequence[str],
) -> list[Compared]:
    compared = []
    for index, row in enumerate(rows):
        compared.append(
            Compared(
                name=row.stem,
                image=read_picture(row.image),
                truth=old[0].truths[index],
                before=_at_threshold(old[0].found[index], old[1], names),
                after=_at_threshold(new[0].found[index], new[1], names),
            )
        )
    return choose_most_changed(compared, _PICTURES)


def _at_threshold(found: Detections, rules: DecisionRules, names: Sequence[str]) -> Detections:
    limits = np.asarray(_thresholds(rules, names), np.float32)
    return found.select(found.confidence >= limits[found.class_id])
