"""Lay the old parts out as a data set: what the first champion learnt from, and a golden set it never saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from demo.base.recipe import BaseRecipe
from demo.line.script import FIRST_CLASSES, MIXES, draw_part
from demo.line.writer import encode_jpeg, yolo_text
from demo.loop.settings import LoopSettings
from flows.files import write_file
from flows.labels.dataset import ImportItem, Pin

GOLDEN_SEED_STEP = 3
"""Golden parts are drawn from the recipe's seed plus this: neither trained on, nor chosen on, nor told of."""


def old_parts(folder: Path, recipe: BaseRecipe, settings: LoopSettings) -> list[ImportItem]:
    """Write old parts with their labels into `folder` and return them; what is there already is kept."""
    training = settings.training
    replay = _parts(folder, recipe.seed, min(training.replay_images, recipe.train_parts), "train")
    golden = _parts(folder, recipe.seed + GOLDEN_SEED_STEP, training.golden_images, "golden")
    return [*replay, *golden]


def _parts(folder: Path, seed: int, count: int, pin: Pin) -> Iterator[ImportItem]:
    for number in range(count):
        name = f"old-{seed}-{number:06d}"
        image, label = folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.txt"
        if not label.exists():
            picture = draw_part(MIXES["known"], seed, number)
            write_file(image, encode_jpeg(picture))
            # The label last: a part with a label is whole.
            write_file(label, yolo_text(picture.truth, FIRST_CLASSES).encode())
        yield ImportItem(name=name, image=image, label=label, slices={"period": "old"}, pinned=pin)
