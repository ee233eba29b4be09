"""Lay the same images out twice: as our index, and as the yaml and label files that ultralytics reads.

    <folder>/dataset.json, images/<name>.jpg                     ours
    <folder>/plain/images/{train,val}/<name>.jpg, labels/...     ultralytics', hard links of the same files
    <folder>/plain/train.yaml                                    validation of a handful, for `YOLO.train()`
    <folder>/plain/measure.yaml                                  all validation images, for the evaluator

`YOLO.train(val=False)` still validates twice at its end. The handful keeps that short; what it takes is
measured and not counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.base.data import box_label
from demo.images.layout import read_image_folder
from demo.line.script import ALL_CLASSES, MIXES, draw_part
from demo.line.writer import encode_jpeg
from trainer.dataset import INDEX_FILE, DatasetItem, write_dataset

HANDFUL = 4
MIX = "changed"
"""Of the demo's line: what its first champion has not seen."""


@dataclass(frozen=True, slots=True)
class TwoLayouts:
    """Name both layouts of one set of images."""

    ours: Path
    train_yaml: Path
    measure_yaml: Path
    class_names: tuple[str, ...]


def drawn_items(seed: int, train: int, val: int) -> Iterator[DatasetItem]:
    """Draw parts of the simulated line; the same seed gives the same parts."""
    for number in range(train + val):
        picture = draw_part(MIXES[MIX], seed, number)
        yield DatasetItem(
            name=f"part-{seed}-{number:06d}",
            image=encode_jpeg(picture),
            boxes=tuple(box_label(box, ALL_CLASSES) for box in picture.truth),
            known_classes=len(ALL_CLASSES),
            split="train" if number < train else "val",
        )


def folder_items(folder: Path, train: int, val: int) -> tuple[tuple[str, ...], list[DatasetItem]]:
    """Read the first images of a folder's `base_train` split; its validation splits are left alone.

    Raises:
        ValueError: the split has too few images.
        BadDataset: the folder is not laid out as `make demo` expects it.
    """
    found = read_image_folder(folder)
    rows = found.split("base_train")
    if len(rows) < train + val:
        raise ValueError(f"expected {train + val} images of split base_train, got {len(rows)} in {folder}")
    # Boards are neighbours in the list; the step spreads both parts over all of them.
    step = len(rows) // (train + val)
    chosen = rows[::step][: train + val]
    items = [
        DatasetItem(row.stem, row.image, row.boxes(), len(found.class_names), _split(number, train, val))
        for number, row in enumerate(chosen)
    ]
    return found.class_names, items


def write_both(folder: Path, class_names: tuple[str, ...], items: Iterator[DatasetItem]) -> TwoLayouts:
    """Write both layouts; a folder that is whole already is kept."""
    plain = folder / "plain"
    told = TwoLayouts(folder, plain / "train.yaml", plain / "measure.yaml", class_names)
    if told.measure_yaml.is_file():
        return told
    write_dataset(folder, class_names, items)
    rows = json.loads((folder / INDEX_FILE).read_text())["items"]
    for row in rows:
        _link(folder, row)
    few = [row for row in rows if row["split"] == "val"][:HANDFUL]
    listed = plain / "handful.txt"
    listed.write_text("".join(f"{_plain_image(folder, row)}\n" for row in few))
    _write_yaml(told.train_yaml, class_names, str(listed))
    _write_yaml(told.measure_yaml, class_names, "images/val")
    return told


def _split(number: int, train: int, val: int) -> Any:
    """Spread the validation images evenly between the others."""
    return "val" if (number + 1) * val // (train + val) > number * val // (train + val) else "train"


def _plain_image(folder: Path, row: dict[str, Any]) -> Path:
    return folder / "plain" / "images" / str(row["split"]) / Path(row["file"]).name


def _link(folder: Path, row: dict[str, Any]) -> None:
    image = _plain_image(folder, row)
    label = folder / "plain" / "labels" / str(row["split"]) / f"{image.stem}.txt"
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        os.link(folder / row["file"], image)
    # As many digits as our index has, so that both read the same float32.
    lines = [" ".join([str(int(box[0])), *(repr(float(value)) for value in box[1:])]) for box in row["boxes"]]
    label.write_text("".join(f"{line}\n" for line in lines))


def _write_yaml(path: Path, class_names: tuple[str, ...], val: str) -> None:
    # JSON is YAML, and needs no library to be written.
    names = dict(enumerate(class_names))
    told = {"path": str(path.parent), "train": "images/train", "val": val, "names": names}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(told))
    temporary.replace(path)
