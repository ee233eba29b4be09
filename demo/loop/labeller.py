"""Play the human labeller with the simulator's truth; whoever sees the demo is told so.

The labeller sees only what the boxes uploaded, never the rest of the line. A part with something the
class list has no name for is set aside until the class is added by command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.line.script import ALL_CLASSES

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Name one sample that arrived and the part it shows."""

    sample_id: str
    part_id: str


@dataclass(frozen=True, slots=True)
class LabelWork:
    """Say what one round of labelling did."""

    written: int
    set_aside: int
    """Parts that show something the class list has no name for."""
    unknown: int
    """Samples of parts the simulator never made."""


def label_text(truth: str, classes: Sequence[str]) -> str | None:
    """Return a part's truth as label text under a class list; None where the list lacks a name.

    `classes` is the list in force, the beginning of `ALL_CLASSES`; truth is YOLO text under all of them.
    """
    for line in truth.splitlines():
        if ALL_CLASSES[int(line.split()[0])] not in classes:
            return None
    return truth


class Labeller:
    """Write a label file for every uploaded sample, once."""

    def __init__(self, labels: Path, truths: Mapping[str, Path]) -> None:
        """Take the folder label files go to, and the truth folder of every line by its name."""
        self._labels = labels
        self._truths = dict(truths)

    def name_classes(self, classes: Sequence[str]) -> None:
        """Say under which class list labels are made from now on."""
        text = "".join(f"{name}\n" for name in classes)
        path = self._labels / CLASSES_FILE
        if not path.is_file() or path.read_text() != text:
            _write(path, text)

    def work(self, uploaded: Sequence[Uploaded], classes: Sequence[str]) -> LabelWork:
        """Label what is not labelled yet, under the class list in force."""
        self.name_classes(classes)
        written = set_aside = unknown = 0
        for sample in uploaded:
            path = self._labels / f"{sample.sample_id}.txt"
            if path.exists():
                continue
            truth = self._truth_of(sample.part_id)
            if truth is None:
                unknown += 1
                continue
            text = label_text(truth, classes)
            if text is None:
                set_aside += 1
                continue
            _write(path, text)
            written += 1
        return LabelWork(written, set_aside, unknown)

    def _truth_of(self, part_id: str) -> str | None:
        folder = self._truths.get(part_id.rsplit("-", 1)[0])
        path = folder / f"{part_id}.txt" if folder else None
        return path.read_text() if path and path.is_file() else None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.write_text(text)
    draft.replace(path)
