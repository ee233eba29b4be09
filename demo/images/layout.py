"""Read a folder of real images: `images/`, `labels/` (YOLO text), `samples.csv` and `classes.txt`.

`samples.csv` has the columns `stem,board,split`. Splits play parts: `base_train` is what the first
champion learnt from, `new_pool` is the line after a product change, `new_val` and `base_val` are read
once, for the report. Everything wrong with a folder is told at once, with file and line.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from demo.errors import BadDataset
from fleet_contracts.ids import PART
from fleet_contracts.samples import BoxLabel

SPLITS = ("base_train", "base_val", "new_pool", "new_val")
_COLUMNS = ("stem", "board", "split")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
_TOLD = 20
"""Problems that are listed; a folder with more of them has one cause."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """Name one image: its stem, the board it shows (a slice, not a split group) and its part in the demo."""

    stem: str
    board: str
    split: str
    image: Path
    label: Path

    def boxes(self) -> tuple[BoxLabel, ...]:
        """Read the image's labels; an empty file says that there is nothing."""
        return read_boxes(self.label)


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Hold a folder that was checked."""

    path: Path
    class_names: tuple[str, ...]
    rows: tuple[ImageRow, ...]

    def split(self, name: str) -> tuple[ImageRow, ...]:
        """Return the images of one split, by stem."""
        return tuple(row for row in self.rows if row.split == name)


def read_image_folder(path: Path) -> ImageFolder:
    """Read and check a folder; the images themselves are not opened.

    Raises:
        BadDataset: files, columns or splits are missing, or labels do not fit the classes.
    """
    for name in ("images", "labels", "samples.csv", "classes.txt"):
        if not (path / name).exists():
            raise BadDataset(
                expected="images/, labels/, samples.csv and classes.txt",
                got=f"no {name}",
                where=str(path),
                now="Give a folder of this layout with --images.",
            )
    names = tuple(line.strip() for line in (path / "classes.txt").read_text().splitlines() if line.strip())
    rows, problems = _read_rows(path)
    problems += [problem for row in rows for problem in _label_problems(row, len(names))]
    counts = Counter(row.split for row in rows)
    problems += [f"samples.csv: no image of split {split}" for split in SPLITS if not counts[split]]
    if not names or len(set(names)) != len(names):
        problems.append(f"classes.txt: expected different names, one a line, got {list(names)}")
    if problems:
        more = f" and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise BadDataset(
            expected="a sound folder",
            got="; ".join(problems[:_TOLD]) + more,
            where=str(path),
            now="Correct these files; nothing was started.",
        )
    return ImageFolder(path, names, tuple(sorted(rows, key=lambda row: row.stem)))


def read_boxes(path: Path) -> tuple[BoxLabel, ...]:
    """Read a YOLO text file.

    Raises:
        ValueError: a line is not `class cx cy width height` with shares from 0 to 1.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            class_id, cx, cy, width, height = fields
            box = BoxLabel(
                class_id=int(class_id), cx=float(cx), cy=float(cy), width=float(width), height=float(height)
            )
        except ValueError as error:
            raise ValueError(
                f"{path.name} line {number}: expected 'class cx cy width height', got {line!r}"
            ) from error
        found.append(box)
    return tuple(found)


def _read_rows(path: Path) -> tuple[list[ImageRow], list[str]]:
    rows: list[ImageRow] = []
    problems: list[str] = []
    with (path / "samples.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            return [], [f"samples.csv: expected columns {list(_COLUMNS)}, got {reader.fieldnames}"]
        for number, line in enumerate(reader, start=2):
            image = _image_of(path / "images", line["stem"])
            problem = _row_problem(line, image)
            if problem or image is None:
                problems.append(f"samples.csv line {number}: {problem}")
                continue
            label = path / "labels" / f"{line['stem']}.txt"
            rows.append(ImageRow(line["stem"], line["board"], line["split"], image, label))
    twice = [stem for stem, count in Counter(row.stem for row in rows).items() if count > 1]
    problems += [f"samples.csv: {stem} stands there twice" for stem in twice]
    return rows, problems


def _row_problem(line: dict[str, str], image: Path | None) -> str:
    if image is None:
        return f"no image for {line['stem']!r} in images/"
    if line["split"] not in SPLITS:
        return f"expected a split of {list(SPLITS)}, got {line['split']!r}"
    if not re.match(PART, line["stem"]):
        return f"expected a stem of letters, digits, dot, dash and underscore, got {line['stem']!r}"
    return ""


def _image_of(folder: Path, stem: str) -> Path | None:
    for suffix in _SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    return None


def _label_problems(row: ImageRow, classes: int) -> list[str]:
    if not row.label.is_file():
        return [f"labels/{row.label.name}: no such file"]
    try:
        boxes = row.boxes()
    except ValueError as error:
        return [f"labels/{error}"]
    unknown = sorted({box.class_id for box in boxes if box.class_id >= classes})
    return [f"labels/{row.label.name}: expected classes 0 to {classes - 1}, got {unknown}"] if unknown else []
