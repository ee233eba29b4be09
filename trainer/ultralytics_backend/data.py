"""Feed ultralytics' loader from our index: no scan, no label files, no cache file beside the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import YOLODataset

from trainer.dataset import INDEX_FILE


class IndexedDataset(YOLODataset):
    """Be ultralytics' dataset over `dataset.json`; `img_path` is the dataset's folder.

    `known_classes` maps an image file to the number of classes its labels speak of.
    """

    known_classes: dict[str, int]

    def get_img_files(self, img_path: str) -> list[str]:
        """Read the index in place of walking the folder."""
        folder = Path(img_path)
        rows = json.loads((folder / INDEX_FILE).read_text())["items"]
        self._rows = {str(folder / row["file"]): row for row in rows if row["split"] == "train"}
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
                    "segments": [],
                    "keypoints": None,
                    "normalized": True,
                    "bbox_format": "xywh",
                }
            )
        return labels


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
