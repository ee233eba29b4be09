"""Read labels from a folder: the first label source, and the one every labelling tool can write to.

    <labels folder>/<task>/classes.txt            the class list the files speak of, one name a line
    <labels folder>/<task>/<sample id>.txt        by sample
    <labels folder>/<task>/<part id>__<frame>.txt by part and frame
    <labels folder>/<task>/<part id>.txt          by part, where only one frame of it was kept

A file is read when it is new or was written again. A bad one is refused with its line, in the database and
in `refused.csv` beside the files, and the rest goes on. A file for a sample that has not arrived waits.
Names are UTF-8; another one is told at every look, and no database could hold it.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import select

from fleet_contracts import sha256_of, utc_now
from flows.context import Context
from flows.database.schema import LabelFileRow
from flows.errors import LabelsRefused
from flows.labels.names import FileTarget, find_targets
from flows.labels.records import NewLabel, add_labels
from flows.labels.refused import drop_gone, report_refused
from flows.labels.versions import CLASSES_FILE, FolderClasses, read_classes
from flows.labels.yolo_text import FrameSize, read_yolo

log = logging.getLogger("whetstone.flows")

MAX_FILE_BYTES = 1024 * 1024
BATCH = 200
"""Files taken in per transaction."""


@dataclass(slots=True)
class FolderReport:
    """Say what one look into the folder brought."""

    new_labels: int = 0
    read: int = 0
    waiting: int = 0
    refused: list[str] = field(default_factory=list)
    problem: str = ""


def read_label_folder(ctx: Context, task_id: str) -> FolderReport:
    """Take in what is new in a task's label folder; doing so again changes nothing.

    Raises:
        StoreAway, DatabaseAway: what was not taken in yet is taken in by the next look.
    """
    folder = ctx.path(ctx.settings.labels.folder) / task_id
    report = FolderReport()
    if not folder.is_dir():
        return report
    known = _known_files(ctx, task_id)
    # (1) which class list do the files speak of?
    classes = read_classes(ctx, task_id, folder, known.get(CLASSES_FILE))
    if isinstance(classes, str):
        report.problem = classes
        _tell_refused(ctx, task_id, folder)
        return report
    # (2) only files that are new or were written again are opened
    fresh = _fresh_files(folder, known, ctx.settings.labels.settle_seconds, report)
    for start in range(0, len(fresh), BATCH):
        _take_in(ctx, task_id, _Batch(fresh[start : start + BATCH], classes, known), report)
    # (3) only now the class list counts as read: after a crash before this, older files still find
    #     the version they were written under
    classes.remember(ctx, task_id)
    _tell_refused(ctx, task_id, folder)
    return report


def _tell_refused(ctx: Context, task_id: str, folder: Path) -> None:
    drop_gone(ctx, task_id, folder)
    report_refused(ctx, task_id, folder)


def _fresh_files(
    folder: Path, known: dict[str, LabelFileRow], settle: float, report: FolderReport
) -> list[Path]:
    fresh = []
    for path in sorted(folder.glob("*.txt")):
        if told := _not_utf8(path):
            report.refused.append(told)
        elif _is_fresh(path, known) and not 0 <= _age(path) < settle:
            fresh.append(path)
    return fresh


def _not_utf8(path: Path) -> str:
    raw = os.fsencode(path.name)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        told = raw.decode("utf-8", "backslashreplace")
        return str(LabelsRefused(expected="a file name in UTF-8", got="other bytes", where=told))
    return ""


@dataclass(frozen=True, slots=True)
class _Batch:
    paths: list[Path]
    classes: FolderClasses
    known: dict[str, LabelFileRow]

    def is_still_waiting(self, row: LabelFileRow) -> bool:
        """Tell whether there is nothing new to remember of a file."""
        before = self.known.get(row.name)
        return before is not None and before.state == row.state == "waiting"


def _take_in(ctx: Context, task_id: str, batch: _Batch, report: FolderReport) -> None:
    rows: list[LabelFileRow] = []
    labels: list[NewLabel] = []
    targets = find_targets(ctx, task_id, [path.stem for path in batch.paths])
    for path in batch.paths:
        stamp = stamp_of(path)
        version = batch.classes.version_for(path)
        row = LabelFileRow(
            task_id=task_id,
            name=path.name,
            content_sha256="",
            state="accepted",
            stamp=stamp,
            class_list_version=version.version,
            seen_at=utc_now(),
        )
        try:
            label = _read_file(path, row, targets[path.stem], len(version.names))
        except (LabelsRefused, ValidationError) as error:
            row.state, row.reason = "refused", _reason(path, error)
            report.refused.append(row.reason)
        else:
            if label is None:
                row.state = "waiting"
                report.waiting += 1
            else:
                labels.append(label)
        if not batch.is_still_waiting(row):
            rows.append(row)
    # (1) the labels before the memory of the files: a crash in between reads the files again
    report.new_labels += add_labels(ctx, task_id, labels)
    report.read += len(labels)
    # (2)
    with ctx.database.session() as session:
        for row in rows:
            session.merge(row)


def _reason(path: Path, error: LabelsRefused | ValidationError) -> str:
    # What pydantic says names fields, not the file.
    return str(error) if isinstance(error, LabelsRefused) else f"{path.name}: {error}"


def _read_file(path: Path, row: LabelFileRow, target: FileTarget, class_count: int) -> NewLabel | None:
    if target.problem:
        raise LabelsRefused(expected="one sample", got=target.problem, where=path.name)
    if target.sample is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabelsRefused(expected="a readable file", got=str(error), where=path.name) from error
    if len(content) > MAX_FILE_BYTES:
        raise LabelsRefused(
            expected=f"at most {MAX_FILE_BYTES} bytes", got=str(len(content)), where=path.name
        )
    row.content_sha256 = sha256_of(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsRefused(expected="text", got=str(error), where=path.name) from error
    size = FrameSize(target.sample.width, target.sample.height)
    return NewLabel(
        sample_id=target.sample.sample_id,
        class_list_version=row.class_list_version,
        boxes=read_yolo(text, size, class_count=class_count, where=path.name),
        labelled_by="labels folder",
    )


def _known_files(ctx: Context, task_id: str) -> dict[str, LabelFileRow]:
    with ctx.database.reader() as session:
        rows = session.scalars(select(LabelFileRow).where(LabelFileRow.task_id == task_id))
        return {row.name: row for row in rows}


def _is_fresh(path: Path, known: dict[str, LabelFileRow]) -> bool:
    if path.name == CLASSES_FILE or path.name.startswith("."):
        return False
    row = known.get(path.name)
    return row is None or row.state == "waiting" or row.stamp != stamp_of(path)


def _age(path: Path) -> float:
    """Return seconds since a file was written; below zero where clocks differ or it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return -1.0


def stamp_of(path: Path) -> str:
    """Return modification time and size of a file, as far as it is still there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return "gone"
    return f"{found.st_mtime_ns}:{found.st_size}"
