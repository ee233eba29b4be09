"""Put a snapshot's members on disk for training: images by name and one index, `dataset.json`.

Third station of a run, between the fetched shards and the training child. The index, not a tree of label
files, is what the child reads, so that nothing is scanned and every image carries the number of classes
its labels speak of (law 9).

    folder/
        dataset.json          class names, then one row an image: file, split, known classes, boxes
        images/<name>.jpg
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet_contracts.ids import sha256_of
from fleet_contracts.samples import BoxLabel, ClassList
from fleet_contracts.training import SnapshotMember
from trainer.backend_job import write_whole
from trainer.errors import DatasetRefused

INDEX_FILE = "dataset.json"


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """Hold one image of a dataset: its file and its boxes (YOLO shares of width and height).

    `known_classes` is the length of the class list the labels were made under; of later classes nothing
    is known in this image.
    """

    name: str
    image: Path | bytes
    boxes: tuple[BoxLabel, ...]
    known_classes: int
    split: Literal["train", "val", "golden"] = "train"


@dataclass(frozen=True, slots=True)
class DatasetOnDisk:
    """Point at a dataset folder and say what is in it."""

    folder: Path
    class_names: tuple[str, ...]
    train_images: int
    val_images: int
    masked_images: int
    """Images whose labels speak of fewer classes than the list has."""


def write_dataset(folder: Path, class_names: Sequence[str], items: Iterable[DatasetItem]) -> DatasetOnDisk:
    """Write images and index; images already there under the same name are kept.

    One image is in memory at a time.

    Raises:
        DatasetRefused: no training image, two images of one name, a box of a class that the image's list
            does not have, or an image known under more classes than the list has.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: dict[str, str] = {}
    for item in items:
        _require_sound(item, class_names, rows)
        file = image_file(folder, item.name)
        if not file.exists():
            place_image(item.image, file)
        row = {
            "file": f"images/{file.name}",
            "split": item.split,
            "known_classes": item.known_classes,
            "boxes": [[box.class_id, box.cx, box.cy, box.width, box.height] for box in item.boxes],
        }
        rows[item.name] = json.dumps(row)
    listed = ", ".join(rows[name] for name in sorted(rows))
    index = f'{{"class_names": {json.dumps(list(class_names))}, "items": [{listed}]}}'
    write_whole(folder / INDEX_FILE, index.encode())
    return open_dataset(folder)


def image_file(folder: Path, name: str) -> Path:
    """Return where a dataset keeps an image."""
    return folder / "images" / f"{name}.jpg"


def open_dataset(folder: Path) -> DatasetOnDisk:
    """Open a folder that `write_dataset` wrote.

    Raises:
        DatasetRefused: no index, or no training image in it.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise DatasetRefused(expected=f"an index {INDEX_FILE}", got="no such file", where=str(folder))
    index = json.loads(path.read_text())
    splits = [row["split"] for row in index["items"]]
    if "train" not in splits:
        raise DatasetRefused(expected="at least one training image", got="none", where=str(path))
    count = len(index["class_names"])
    return DatasetOnDisk(
        folder=folder,
        class_names=tuple(index["class_names"]),
        train_images=splits.count("train"),
        val_images=splits.count("val"),
        masked_images=sum(row["split"] == "train" and row["known_classes"] < count for row in index["items"]),
    )


def materialise(
    members: Iterable[SnapshotMember], image_of: Callable[[str], bytes], out: Path, class_list: ClassList
) -> DatasetOnDisk:
    """Put a snapshot's members on disk.

    Args:
        members: the snapshot's members; golden ones stay out, they are for the gate alone.
        image_of: the encoded image of a sample id.
        out: folder to write; an image that lies there already and is right is not asked for again.
        class_list: the list the run trains for.

    Raises:
        DatasetRefused: image bytes that are not the sample's, or labels outside the class list.
    """

    def item(member: SnapshotMember) -> DatasetItem:
        file = image_file(out, member.sample_id)
        if not is_right(file, member.sample_id):
            file.unlink(missing_ok=True)
            return item_of(member, checked(member.sample_id, image_of(member.sample_id)))
        return item_of(member, file)

    return write_dataset(out, class_list.names, (item(one) for one in members if one.split != "golden"))


def item_of(member: SnapshotMember, image: Path | bytes) -> DatasetItem:
    """Return a member as an item of a dataset."""
    return DatasetItem(member.sample_id, image, member.boxes, member.class_count, member.split)


def checked(sample_id: str, content: bytes) -> bytes:
    """Return an image's bytes, which must have the hash that names it.

    Raises:
        DatasetRefused: they have another.
    """
    if sha256_of(content) != sample_id:
        raise DatasetRefused(
            expected=f"the image of sample {sample_id}",
            got=f"{len(content)} bytes with another hash",
            where="shards",
            now="Fetch the snapshot's shards again.",
        )
    return content


def is_right(file: Path, sample_id: str) -> bool:
    """Say whether an image is there and has the hash that names it; a power cut may have left less of it."""
    try:
        return sha256_of(file.read_bytes()) == sample_id
    except FileNotFoundError:
        return False


def _require_sound(item: DatasetItem, class_names: Sequence[str], rows: Container[str]) -> None:
    where = f"image {item.name}"
    if item.name in rows:
        raise DatasetRefused(expected="each image once", got="the same name twice", where=where)
    if not 1 <= item.known_classes <= len(class_names):
        raise DatasetRefused(
            expected=f"labels under 1 to {len(class_names)} classes", got=str(item.known_classes), where=where
        )
    for box in item.boxes:
        if box.class_id >= item.known_classes:
            raise DatasetRefused(
                expected=f"class ids under {item.known_classes}", got=str(box.class_id), where=where
            )


def place_image(image: Path | bytes, file: Path) -> None:
    """Write or hard-link an image under its name, by rename, so that a torn one is never taken for whole."""
    temporary = file.with_name(f"{file.name}.{threading.get_ident()}.part")
    temporary.unlink(missing_ok=True)
    if isinstance(image, bytes):
        temporary.write_bytes(image)
    else:
        try:
            os.link(image, temporary)
        except OSError:
            shutil.copyfile(image, temporary)
    temporary.replace(file)
