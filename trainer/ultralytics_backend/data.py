"""Feed ultralytics' loader from our index: no scan, no label files, no cache file beside the images."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ultralytics.data.augment import Compose, Mosaic
from ultralytics.data.dataset import YOLODataset

from trainer.dataset import INDEX_FILE
from trainer.ultralytics_backend.order import Pick
from trainer.watch.slow_disk import wait_for_disk


class IndexedDataset(YOLODataset):
    """Be ultralytics' dataset over `dataset.json`; `img_path` is the dataset's folder.

    `known_classes` maps an image file to the number of classes its labels speak of.
    """

    known_classes: dict[str, int]

    def __init__(self, *args: Any, split: Literal["train", "val"] = "train", **kwargs: Any) -> None:
        self._split = split
        # ultralytics pastes what lies within an outline. A box is one; outlines cost time in every mosaic.
        self._outlined = split == "train" and kwargs["hyp"].copy_paste > 0
        super().__init__(*args, **kwargs)

    def __getitem__(self, index: int | Pick) -> dict[str, Any]:
        """Return an image with its boxes; a `Pick` also fixes how it is augmented, in whatever process."""
        if isinstance(index, Pick):
            # ultralytics' augmentations draw from these two and from nothing else.
            random.seed(index.seed)
            np.random.seed(index.seed & 0xFFFF_FFFF)
            index = index.image
        item: dict[str, Any] = super().__getitem__(index)
        return item

    def load_image(self, i: int, *args: Any, **kwargs: Any) -> Any:
        """Return an image as ultralytics does; one not in memory costs a simulated disk's time."""
        if self.ims[i] is None:
            wait_for_disk()
        return super().load_image(i, *args, **kwargs)

    def build_transforms(self, hyp: Any) -> Any:
        """Return ultralytics' augmentations, with mosaics of images from anywhere.

        ultralytics takes a mosaic's images from those a worker process loaded lately, which saves reading
        and depends on the number of processes. Without a cache that saving is kept, unless the run shall
        be deterministic.
        """
        built = super().build_transforms(hyp)
        if self.cache is not None or hyp.deterministic:
            for one in parts_of(built):
                if isinstance(one, Mosaic):
                    one.buffer_enabled = False
        return built

    def close_mosaic(self, hyp: Any) -> None:
        """Mix images no more."""
        super().close_mosaic(hyp)
        for label in self.labels:
            label["segments"] = []

    def get_img_files(self, img_path: str) -> list[str]:
        """Read the index in place of walking the folder."""
        folder = Path(img_path)
        rows = json.loads((folder / INDEX_FILE).read_text())["items"]
        self._rows = {str(folder / row["file"]): row for row in rows if row["split"] == self._split}
        self.known_classes = {file: int(row["known_classes"]) for file, row in self._rows.items()}
        return sorted(self._rows)

    def get_labels(self) -> list[dict[str, Any]]:
        """Return ultralytics' label dictionaries; what they say was checked when the index was written."""
        labels = []
        for file in self.im_files:
            boxes = np.array(self._rows[file]["boxes"], dtype=np.float32).reshape(-1, 5)
            labels.append(
                {
                    "im_file": file,
                    "shape": (0, 0),  # only rectangular batches would read it, and we train on squares
                    "cls": boxes[:, :1].copy(),
                    "bboxes": boxes[:, 1:].copy(),
                    "segments": _outlines(boxes[:, 1:]) if self._outlined else [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        return labels


def _outlines(boxes: np.ndarray) -> list[np.ndarray]:
    """Return the corners of boxes (centre and size) as ultralytics' outlines, each (4, 2)."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
    return [(box[:2] + corners * box[2:]).clip(0.0, 1.0) for box in boxes]


def parts_of(transform: Any) -> Iterator[Any]:
    """Yield every augmentation within an augmentation."""
    yield transform
    if isinstance(transform, Compose):
        inner = list(transform.transforms)
    else:
        inner = [one for one in (getattr(transform, "pre_transform", None),) if one is not None]
    for one in inner:
        yield from parts_of(one)


def parity_files(folder: Path, limit: int) -> list[Path]:
    """Choose the images on which .pt and ONNX are compared: validation images first, in index order."""
    index = folder / INDEX_FILE
    if index.is_file():
        rows = json.loads(index.read_text())["items"]
        rows.sort(key=lambda row: row["split"] != "val")
        return [folder / row["file"] for row in rows[:limit]]
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})[
        :limit
    ]
