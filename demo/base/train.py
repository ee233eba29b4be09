"""Train the first champion through the trainer's own backend, measure it, and lay it into the package.

(1) draw the training parts; (2) train in the fenced child, which also exports and compares; (3) choose
thresholds on validation parts; (4) tell recall on parts nothing was chosen on; (5) write weights, then
the record that carries their hash.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.base.data import base_items
from demo.base.recipe import (
    MAX_WEIGHTS_BYTES,
    RECORD,
    WEIGHTS,
    BaseRecipe,
    BaseRecord,
    base_folder,
)
from demo.errors import BadAsset
from demo.line.script import FIRST_CLASSES
from demo.measure import PartSet, by_kind, choose_threshold_rules, measure_recall
from trainer.backend import run_to_end
from trainer.backend_job import BackendEvent, BackendJob, BackendResult, write_whole
from trainer.dataset import write_dataset

TEST_PARTS = 400
OnEvent = Callable[[BackendEvent], None]


@dataclass(frozen=True, slots=True)
class BasePlaces:
    """Say where the training works and where the package files go."""

    work: Path
    assets: Path


def train_base(recipe: BaseRecipe, places: BasePlaces, on_event: OnEvent | None = None) -> BaseRecord:
    """Train the first champion and write its package files; a killed training goes on where it was.

    Raises:
        BadAsset: the weights are larger than a package file may be.
    """
    # (1) the data
    begun = time.monotonic()
    dataset = write_dataset(
        places.work / "dataset", FIRST_CLASSES, base_items(recipe.seed, recipe.train_parts)
    )
    # (2) the training
    job = base_job(recipe, dataset.folder, places.work / "training")
    result = run_to_end(job, on_event)
    seconds = time.monotonic() - begun
    return keep_base(recipe, result, places.assets, seconds)


def base_job(recipe: BaseRecipe, dataset: Path, out: Path) -> BackendJob:
    """Return the recipe as the trainer's job."""
    return BackendJob(
        start=str(base_folder() / recipe.model),
        dataset=dataset,
        out=out,
        class_names=FIRST_CLASSES,
        image_size=recipe.image_size,
        epochs=recipe.epochs,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        final_lr_share=recipe.final_lr_share,
        augmentation=recipe.augmentation,
        augmentation_values=recipe.augmentation_values,
        seed=recipe.seed,
        threads=recipe.threads,
        niceness=0,
    )


def keep_base(recipe: BaseRecipe, result: BackendResult, assets: Path, seconds: float) -> BaseRecord:
    """Measure a trained champion and write it into the package.

    Raises:
        BadAsset: the weights are larger than a package file may be.
    """
    content = result.weights.read_bytes()
    if len(content) > MAX_WEIGHTS_BYTES or result.onnx is None:
        raise BadAsset(
            expected=f"an exported model with weights of at most {MAX_WEIGHTS_BYTES} bytes",
            got=f"{len(content)} bytes, ONNX {result.onnx}",
            where=str(result.weights),
            now="Make the network narrower in demo/base/net.yaml.",
        )
    # (3) thresholds
    validation = PartSet("known", recipe.validation_seed, recipe.validation_parts)
    rules = choose_threshold_rules(result.onnx, validation, FIRST_CLASSES)
    # (4) recall on unseen parts
    known = measure_recall(result.onnx, rules, PartSet("known", recipe.test_seed, TEST_PARTS))
    novel = measure_recall(result.onnx, rules, PartSet("novel", recipe.test_seed, TEST_PARTS))
    record = BaseRecord(
        sha256=result.weights_sha256,
        size_bytes=len(content),
        class_names=FIRST_CLASSES,
        recipe=recipe,
        decision_rules=rules,
        recall_known=by_kind(known),
        recall_novel=by_kind(novel),
        seconds=round(seconds, 1),
        versions=result.versions,
    )
    # (5) weights first: a record never speaks of weights that are not there
    assets.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(result.weights, assets / f".{WEIGHTS}.part")
    (assets / f".{WEIGHTS}.part").replace(assets / WEIGHTS)
    write_whole(assets / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
    return record
