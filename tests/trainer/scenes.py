"""Make tiny scenes to train on: squares and bars on grey, 64 px, and the snapshot that names them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np

from fleet_contracts.ids import sha256_of
from fleet_contracts.manifest import encode_manifest
from fleet_contracts.samples import BoxLabel, ClassList
from fleet_contracts.training import SnapshotHeader, SnapshotMember
from trainer.dataset import DatasetItem

TASK = "line-a"
NAMES = ("square", "bar")
SIZE = 64
MODEL = Path(__file__).parent / "tiny.yaml"
START = Path(__file__).parent / "tiny.yaml"


def scene(seed: int) -> tuple[bytes, tuple[BoxLabel, ...]]:
    """Return an encoded image with one square and one bar, and their boxes."""
    random = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), 120, np.uint8)
    image += random.integers(0, 12, image.shape, dtype=np.uint8)
    boxes = []
    for class_id, (width, height) in enumerate(((14, 14), (26, 8))):
        x = int(random.integers(2, SIZE - width - 2))
        y = int(random.integers(2, SIZE // 2 - height - 2)) + class_id * SIZE // 2
        colour = (20, 20, 220) if class_id == 0 else (220, 30, 20)
        cv2.rectangle(image, (x, y), (x + width, y + height), colour, -1)
        boxes.append(BoxLabel(class_id=class_id, cx=(x + width / 2) / SIZE, cy=(y + height / 2) / SIZE,
                              width=width / SIZE, height=height / SIZE))  # fmt: skip
    return cv2.imencode(".png", image)[1].tobytes(), tuple(boxes)


def items(count: int, *, val: int = 4, first: int = 0) -> list[DatasetItem]:
    """Return training items, the last `val` of them for validation."""
    made = []
    for number in range(count):
        image, boxes = scene(first + number)
        split = "val" if number >= count - val else "train"
        made.append(DatasetItem(f"scene-{first + number:03d}", image, boxes, len(NAMES), split))
    return made


def class_list(names: tuple[str, ...] = NAMES, version: int = 1) -> ClassList:
    """Return a class list of the test task."""
    return ClassList(task_id=TASK, version=version, names=names)


def member(seed: int, split: str = "val", **changes: object) -> tuple[SnapshotMember, bytes]:
    """Return a snapshot member and its image."""
    image, boxes = scene(seed)
    values = {
        "sample_id": sha256_of(image), "split": split, "group_id": f"group-{seed}", "label_revision": 1,
        "class_list_version": 1, "class_count": len(NAMES), "verified": True, "source": "human", "boxes": boxes,
        "width": SIZE, "height": SIZE, "size_bytes": len(image), **changes,
    }  # fmt: skip
    return SnapshotMember.model_validate(values), image


def snapshot(splits: dict[str, int]) -> tuple[str, bytes, dict[str, bytes]]:
    """Return id and bytes of a manifest with so many members a split, and the images by sample id."""
    members, images = [], {}
    seed = 0
    for split, count in splits.items():
        for _ in range(count):
            one, image = member(seed, split)
            members.append(one)
            images[one.sample_id] = image
            seed += 1
    header = SnapshotHeader(task_id=TASK, class_list=class_list(), members=len(members))
    snapshot_id, content = encode_manifest(header, members)
    return snapshot_id, content, images


def tar_of(images: dict[str, bytes]) -> bytes:
    """Return a shard as ingest writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for sample_id, image in sorted(images.items()):
            info = tarfile.TarInfo(f"{sample_id}.jpg")
            info.size = len(image)
            tar.addfile(info, io.BytesIO(image))
    return buffer.getvalue()
