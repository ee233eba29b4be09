"""Retrain on as many randomly chosen parts as the boxes chose, with everything else the same.

Runs after the demo, on the same machine: the same start weights, the same recipe, the same replayed old
parts; only the choice of new parts differs. Labels are the simulator's truth, as they were in the demo.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from demo.images.layout import read_boxes
from demo.loop.floor import BoxFolder
from demo.pictures import LabelledFile, predict_files
from detection.metrics.thresholds import choose_rules
from fleet_contracts import decode, keys
from fleet_contracts.manifest import decode_manifest
from fleet_contracts.samples import DecisionRules
from fleet_contracts.training import SnapshotMember, TrainPlan
from flows.context import Context
from flows.files import write_file
from trainer.backend import OnEvent, run_to_end
from trainer.backend_job import BackendJob
from trainer.dataset import DatasetItem, write_dataset


@dataclass(frozen=True, slots=True)
class Frame:
    """Point at a frame of the line and its truth."""

    part_id: str
    image: Path
    truth: Path


@dataclass(frozen=True, slots=True)
class RandomModel:
    """Hold the model trained on random parts, with thresholds chosen the way the gate does."""

    onnx: Path
    rules: DecisionRules
    chosen: int


@dataclass(frozen=True, slots=True)
class _Run:
    plan: TrainPlan
    members: tuple[SnapshotMember, ...]
    started_at: datetime

    def mined(self, split: str) -> int:
        return sum(one.origin != "import" and one.split == split for one in self.members)


def train_on_random(
    ctx: Context, run_id: str, folders: Sequence[BoxFolder], work: Path, on_event: OnEvent | None = None
) -> RandomModel:
    """Train on randomly chosen frames of the lines what run `run_id` trained on chosen ones.

    Raises:
        BackendFailed: the training failed.
    """
    # (1) what the run had: its plan and the members of its snapshot
    run = _read_run(ctx, run_id)
    task_id = run.plan.task_id
    # (2) as many frames, chosen by lot among all that passed until the run began
    frames = [one for one in all_frames(folders) if one.image.stat().st_mtime <= run.started_at.timestamp()]
    train, val = choose_frames(frames, run.mined("train"), run.mined("val"), run.plan.seed)
    known = len(run.plan.class_list.names)
    items = [_item(frame, known) for frame in train]
    items += list(_replayed(ctx, task_id, run.members))
    dataset = write_dataset(work / "dataset", run.plan.class_list.names, items)
    # (3) the same training
    start = work / "start.pt"
    write_file(start, ctx.store.get(run.plan.start.key))
    result = run_to_end(_job(run.plan, start, dataset.folder, work / "training"), on_event)
    assert result.onnx is not None
    # (4) thresholds, on as many validation parts
    rules = _rules(result.onnx, val, run.plan.class_list.names)
    return RandomModel(result.onnx, rules, len(train) + len(val))


def all_frames(folders: Sequence[BoxFolder]) -> list[Frame]:
    """Return every frame the lines made, sorted by part."""
    found = [
        Frame(image.name.partition("__")[0], image, folder.truth / f"{image.name.partition('__')[0]}.txt")
        for folder in folders
        for image in folder.camera.glob("[!.]*.jpg")
    ]
    return sorted((frame for frame in found if frame.truth.is_file()), key=lambda frame: frame.part_id)


def choose_frames(
    frames: Sequence[Frame], train: int, val: int, seed: int
) -> tuple[list[Frame], list[Frame]]:
    """Choose frames for training and validation by lot; the same seed chooses the same."""
    shuffled = list(frames)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - a lot, not a secret
    return shuffled[:train], shuffled[train : train + val]


def _read_run(ctx: Context, run_id: str) -> _Run:
    from flows.database.schema import RunRow

    with ctx.database.reader() as session:
        row = session.get(RunRow, run_id)
        assert row is not None, "a finished run has its row"
        task_id, snapshot_id, started_at = row.task_id, row.snapshot_id, row.started_at
    plan_key = keys.run(task_id, run_id, "plan.json")
    manifest_key = keys.snapshot_manifest(task_id, snapshot_id)
    plan = decode(TrainPlan, ctx.store.get(plan_key), where=plan_key)
    _, members = decode_manifest(ctx.store.get(manifest_key), where=manifest_key)
    return _Run(plan, members, started_at)


def _replayed(ctx: Context, task_id: str, members: Sequence[SnapshotMember]) -> Iterator[DatasetItem]:
    for one in members:
        if one.origin == "import" and one.split == "train":
            content = ctx.store.get(keys.sample_image(task_id, one.sample_id))
            yield DatasetItem(one.sample_id, content, one.boxes, one.class_count)


def _item(frame: Frame, known_classes: int) -> DatasetItem:
    return DatasetItem(frame.part_id, frame.image, read_boxes(frame.truth), known_classes)


def _job(plan: TrainPlan, start: Path, dataset: Path, out: Path) -> BackendJob:
    step = plan.stages[-1]
    return BackendJob.model_validate({
        "start": str(start), "dataset": dataset, "out": out, "class_names": plan.class_list.names,
        "image_size": step.image_size, "epochs": step.epochs, "batch": step.batch,
        "augmentation": step.augmentation, "accumulation": plan.accumulation,
        "learning_rate": plan.learning_rate, "final_lr_share": plan.final_lr_share,
        "optimizer": plan.optimizer, "freeze_layers": plan.freeze_layers, "seed": plan.seed,
        "threads": plan.threads, "cache": plan.cache,
    })  # fmt: skip


def _rules(onnx: Path, frames: Sequence[Frame], class_names: Sequence[str]) -> DecisionRules:
    files = [LabelledFile(frame.image, read_boxes(frame.truth)) for frame in frames]
    predicted = predict_files(onnx, files, len(class_names))
    return choose_rules(predicted.found, predicted.truths, class_names)
