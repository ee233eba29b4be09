"""Read an old data set from a folder: `images/`, `labels/`, `samples.csv`, `classes.txt`.

`samples.csv` has the columns `stem` and, if the set has them, `split` and others; the others become slices
of the sample (the board, the line, the shift).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from flows.errors import LabelsRefused

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
Pin = Literal["train", "val", "golden"]


@dataclass(frozen=True, slots=True)
class ImportItem:
    """Point at one image of an old data set and its label file; `split` is what `samples.csv` calls it."""

    name: str
    image: Path
    label: Path | None
    split: str = ""
    slices: dict[str, str] = field(default_factory=dict)
    pinned: Pin | None = None
    """The only split it may ever be in; None leaves the choice to the import's golden share."""


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """Hold what a data set's folder lists."""

    class_names: tuple[str, ...]
    items: tuple[ImportItem, ...]

    def of_split(self, *splits: str) -> tuple[ImportItem, ...]:
        """Return the items of these splits, in the order of the list."""
        return tuple(item for item in self.items if item.split in splits)


def read_dataset(folder: Path) -> DatasetFolder:
    """Read what a data set's folder lists; without `samples.csv` every image of it is listed.

    Raises:
        LabelsRefused: `classes.txt` or an image that is listed is missing, or `samples.csv` has no column
            `stem`; the message names every image that is missing, up to ten.
    """
    names = _class_names(folder / "classes.txt")
    rows = _rows(folder)
    items: list[ImportItem] = []
    absent: list[str] = []
    for row in rows:
        image = _image_of(folder / "images", row["stem"])
        if image is None:
            absent.append(row["stem"])
            continue
        label = folder / "labels" / f"{row['stem']}.txt"
        items.append(
            ImportItem(
                name=row["stem"],
                image=image,
                label=label if label.is_file() else None,
                split=row.get("split") or "",
                slices={key: value for key, value in row.items() if key not in ("stem", "split") and value},
            )
        )
    if absent:
        raise LabelsRefused(
            expected="an image for every stem of samples.csv",
            got=f"none for {len(absent)}: {', '.join(absent[:10])}",
            where=str(folder),
        )
    return DatasetFolder(names, tuple(items))


def _class_names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise LabelsRefused(
            expected="the class names, one a line", got="no such file", where=str(path)
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def _rows(folder: Path) -> list[dict[str, str]]:
    path = folder / "samples.csv"
    if not path.is_file():
        images = sorted((folder / "images").glob("*"))
        return [{"stem": image.stem} for image in images if image.suffix.lower() in IMAGE_SUFFIXES]
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if "stem" not in (reader.fieldnames or []):
            raise LabelsRefused(expected="a column 'stem'", got=str(reader.fieldnames), where=str(path))
        return [{key: value or "" for key, value in row.items() if key} for row in reader]


def _image_of(folder: Path, stem: str) -> Path | None:
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    return None
