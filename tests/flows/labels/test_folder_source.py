"""Hold the label folder to its rules: read once, refused one by one, never under the wrong class list."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from fleet_contracts import decode, keys
from fleet_contracts.samples import BoxLabel, LabelRecord
from flows.catalog.samples import newest_label
from flows.classes import add_class
from flows.context import Context
from flows.database.schema import LabelRow
from flows.errors import StoreAway
from flows.labels.folder_source import read_label_folder
from flows.labels.refused import refused_files
from flows.labels.yolo_text import FrameSize
from flows.store import MemoryStore
from tests.flows.kit import CLASSES, TASK, SimulatedBox, picture

GOOD = "0 0.5 0.5 0.2 0.2\n"


@pytest.fixture
def folder(ctx: Context) -> Path:
    path = ctx.folder / "labels" / TASK
    path.mkdir(parents=True)
    _write(path / "classes.txt", "\n".join(CLASSES), age=100)
    return path


def _write(path: Path, text: str, *, age: float = 0.0) -> None:
    """Write a file as if it had been written `age` seconds ago."""
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))


def _newest(ctx: Context, sample_id: str) -> LabelRow | None:
    with ctx.database.reader() as session:
        return newest_label(session, TASK, sample_id)


def test_a_file_becomes_a_verified_record(ctx: Context, folder: Path) -> None:
    """The record lies in the bucket and in the catalog, verified, under the current list."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    _write(folder / f"{sample_id}.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert (report.new_labels, report.refused, report.problem) == (1, [], "")
    key = keys.label(TASK, sample_id, 1)
    record = decode(LabelRecord, ctx.store.get(key), where=key)
    assert (record.verified, record.source, record.class_list_version, record.imported) == (
        True,
        "human",
        1,
        False,
    )
    row = _newest(ctx, sample_id)
    assert row is not None
    assert row.boxes[0]["class_id"] == 0


def test_files_may_be_named_by_part_and_frame(ctx: Context, folder: Path) -> None:
    """`<part>__<frame>` and, where one frame was kept, `<part>` name a sample as well as its id."""
    box = SimulatedBox(ctx)
    first = box.send(picture(1), part="plate-1", frame=0)
    second = box.send(picture(2), part="plate-1", frame=1)
    alone = box.send(picture(3), part="plate-2", frame=4)
    _write(folder / "plate-1__1.txt", GOOD)
    _write(folder / "plate-2.txt", GOOD)
    assert read_label_folder(ctx, TASK).new_labels == 2
    assert (_newest(ctx, first), _newest(ctx, second) is None, _newest(ctx, alone) is None) == (
        None,
        False,
        False,
    )
    _write(folder / "plate-1.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert "2 samples of part plate-1" in report.refused[0]


def test_reading_again_changes_nothing(ctx: Context, folder: Path) -> None:
    """The same folder read twice, or its files touched, makes no new revision; new content makes one."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    path = folder / f"{sample_id}.txt"
    _write(path, GOOD, age=50)
    assert read_label_folder(ctx, TASK).read == 1
    assert read_label_folder(ctx, TASK).read == 0
    _write(path, GOOD, age=10)
    assert read_label_folder(ctx, TASK).new_labels == 0
    _write(path, "1 0.4 0.4 0.1 0.1\n")
    assert read_label_folder(ctx, TASK).new_labels == 1
    row = _newest(ctx, sample_id)
    assert row is not None
    assert row.revision == 2


def test_a_file_that_may_still_be_written_is_left_for_the_next_look(ctx: Context, folder: Path) -> None:
    """Half a file would be half a label; one from a clock ahead of ours is read all the same."""
    first, second = (SimulatedBox(ctx).send(picture(number), part=f"plate-{number}") for number in (1, 2))
    labels = ctx.settings.labels.model_copy(update={"settle_seconds": 30.0})
    careful = replace(ctx, settings=ctx.settings.model_copy(update={"labels": labels}))
    _write(folder / f"{first}.txt", GOOD, age=2)
    _write(folder / f"{second}.txt", GOOD, age=-3600)
    assert read_label_folder(careful, TASK).new_labels == 1
    assert (_newest(ctx, first), _newest(ctx, second) is None) == (None, False)
    _write(folder / f"{first}.txt", GOOD, age=31)
    assert read_label_folder(careful, TASK).new_labels == 1


def test_an_empty_file_is_a_label(ctx: Context, folder: Path) -> None:
    """A person looked and found nothing: that is verified knowledge."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    _write(folder / f"{sample_id}.txt", "")
    assert read_label_folder(ctx, TASK).new_labels == 1
    row = _newest(ctx, sample_id)
    assert row is not None
    assert (row.boxes, row.verified) == ([], True)


def test_a_bad_file_is_refused_and_the_rest_goes_on(ctx: Context, folder: Path) -> None:
    """Refused files are listed with their line, in the database and in refused.csv, until corrected."""
    box = SimulatedBox(ctx)
    good, bad, binary = (box.send(picture(number), part=f"plate-{number}") for number in range(3))
    _write(folder / f"{good}.txt", GOOD)
    _write(folder / f"{bad}.txt", GOOD + "9 0.5 0.5 0.2 0.2\n", age=60)
    (folder / f"{binary}.txt").write_bytes(b"\xff\xfe\x00\x01")
    report = read_label_folder(ctx, TASK)
    assert (report.new_labels, len(report.refused)) == (1, 2)
    assert any(f"{bad}.txt line 2" in reason for reason in report.refused)
    with (folder / "refused.csv").open(newline="") as file:
        listed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert set(listed) == {f"{bad}.txt", f"{binary}.txt"}
    assert dict(refused_files(ctx, TASK)) == listed
    _write(folder / f"{bad}.txt", GOOD)
    _write(folder / f"{binary}.txt", GOOD)
    assert read_label_folder(ctx, TASK).new_labels == 2
    assert refused_files(ctx, TASK) == []
    assert not (folder / "refused.csv").exists()


def test_a_label_may_come_before_its_sample(ctx: Context, folder: Path) -> None:
    """A file for a sample that has not arrived waits and is read when it has."""
    _write(folder / "plate-1.txt", GOOD)
    assert read_label_folder(ctx, TASK).waiting == 1
    assert read_label_folder(ctx, TASK).waiting == 1
    SimulatedBox(ctx).send(picture(1), part="plate-1")
    assert read_label_folder(ctx, TASK).new_labels == 1


def test_without_classes_no_label_is_read(ctx: Context, folder: Path) -> None:
    """Ids mean nothing without names, so a folder without classes.txt only says what is wrong."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    (folder / "classes.txt").unlink()
    _write(folder / f"{sample_id}.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert "classes.txt" in report.problem
    assert _newest(ctx, sample_id) is None


@pytest.mark.parametrize(
    "names", ["missing\nscratch\nmisplaced", "scratch", "scratch\nmissing\nmisplaced\nstain"]
)
def test_a_foreign_class_list_is_refused_whole(ctx: Context, folder: Path, names: str) -> None:
    """A list that is not the task's, or not yet, would give every id another meaning."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    _write(folder / "classes.txt", names)
    _write(folder / f"{sample_id}.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert "class" in report.problem
    assert "classes add" in report.problem
    assert _newest(ctx, sample_id) is None


def test_labels_written_before_a_class_was_added_do_not_speak_of_it(ctx: Context, folder: Path) -> None:
    """Files older than the longer classes.txt keep the shorter list; written again they are reviewed (law 9)."""
    box = SimulatedBox(ctx)
    early, late, new = (box.send(picture(number), part=f"plate-{number}") for number in range(3))
    _write(folder / f"{early}.txt", GOOD, age=80)
    read_label_folder(ctx, TASK)
    add_class(ctx, TASK, "stain", "test", "it appeared")
    _write(folder / f"{late}.txt", GOOD, age=60)
    _write(folder / "classes.txt", "\n".join([*CLASSES, "stain"]), age=40)
    _write(folder / f"{new}.txt", "3 0.5 0.5 0.2 0.2\n", age=20)
    assert read_label_folder(ctx, TASK).new_labels == 2
    versions = [
        row.class_list_version for one in (early, late, new) if (row := _newest(ctx, one)) is not None
    ]
    assert versions == [1, 1, 2]
    _write(folder / "classes.txt", "\n".join([*CLASSES, "stain"]))
    _write(folder / f"{new}.txt", "3 0.4 0.5 0.2 0.2\n", age=10)
    assert read_label_folder(ctx, TASK).refused == []
    _write(folder / f"{early}.txt", GOOD)
    read_label_folder(ctx, TASK)
    row = _newest(ctx, early)
    assert row is not None
    assert (row.class_list_version, row.revision) == (2, 2)


def test_a_store_that_is_away_is_asked_again(ctx: Context, folder: Path, memory: MemoryStore) -> None:
    """Labels that could not be written are not remembered as read."""
    sample_id = SimulatedBox(ctx).send(picture(1), part="plate-1")
    _write(folder / f"{sample_id}.txt", GOOD)
    memory.away = True
    with pytest.raises(StoreAway):
        read_label_folder(ctx, TASK)
    memory.away = False
    assert _newest(ctx, sample_id) is None
    assert read_label_folder(ctx, TASK).new_labels == 1
    with ctx.database.reader() as session:
        assert [row.revision for row in session.scalars(select(LabelRow))] == [1]


@pytest.mark.parametrize("classes_gone", [False, True])
def test_a_refused_file_that_is_gone_no_longer_counts(ctx: Context, folder: Path, classes_gone: bool) -> None:
    """Deleting or renaming a refused file ends its refusal, also while classes.txt cannot be used."""
    box = SimulatedBox(ctx)
    good, bad, kept = (box.send(picture(number), part=f"plate-{number}") for number in range(3))
    _write(folder / f"{good}.txt", GOOD)
    for name in (f"{bad}.txt", f"{kept}.txt"):
        _write(folder / name, "9 0.5 0.5 0.2 0.2\n", age=60)
    read_label_folder(ctx, TASK)
    assert len(refused_files(ctx, TASK)) == 2
    (folder / f"{bad}.txt").rename(folder / "aside.bak")
    if classes_gone:
        (folder / "classes.txt").unlink()
    read_label_folder(ctx, TASK)
    assert [name for name, _ in refused_files(ctx, TASK)] == [f"{kept}.txt"]
    assert bad not in (folder / "refused.csv").read_text()
    (folder / f"{kept}.txt").unlink()
    read_label_folder(ctx, TASK)
    assert refused_files(ctx, TASK) == []
    assert not (folder / "refused.csv").exists()
    assert _newest(ctx, good) is not None


def test_odd_files_do_not_stop_the_others(ctx: Context, folder: Path) -> None:
    """A box lost in rounding, a superscript as frame and a name that is not UTF-8 concern one file each."""
    box = SimulatedBox(ctx)
    good, thin = (box.send(picture(number), part=f"plate-{number}") for number in range(2))
    _write(folder / f"{thin}.txt", "0 0.5 0.5 1e-18 0.1\n")
    _write(folder / "p-0__\u00b2.txt", GOOD)
    latin = os.fsdecode(b"pi\xe8ce.txt")
    _write(folder / latin, GOOD)
    _write(folder / f"{good}.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert (report.new_labels, report.waiting, len(report.refused)) == (1, 1, 2)
    assert any(f"{thin}.txt line 1" in reason for reason in report.refused)
    assert any(r"pi\xe8ce.txt" in reason for reason in report.refused)
    assert [name for name, _ in refused_files(ctx, TASK)] == [f"{thin}.txt"]
    "".join(report.refused).encode("utf-8")


def test_a_label_no_record_can_hold_is_refused(
    ctx: Context, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reading of text lets through and the contract does not is refused like any other mistake."""
    asked: list[str] = []

    def lenient(text: str, size: FrameSize, *, class_count: int, where: str) -> tuple[BoxLabel, ...]:
        asked.append(where)
        width = 0.0 if text == "thin" else 0.2
        return (BoxLabel(class_id=0, cx=0.5, cy=0.5, width=width, height=0.2),)

    monkeypatch.setattr("flows.labels.folder_source.read_yolo", lenient)
    box = SimulatedBox(ctx)
    good, bad = (box.send(picture(number), part=f"plate-{number}") for number in range(2))
    _write(folder / f"{bad}.txt", "thin")
    _write(folder / f"{good}.txt", GOOD)
    report = read_label_folder(ctx, TASK)
    assert len(asked) == 2
    assert report.new_labels == 1
    assert [reason.split(":")[0] for reason in report.refused] == [f"{bad}.txt"]
