"""Hold the import of old data to its rules: whole, once, and never in the way of newer labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from fleet_contracts import ClassListConflict, sample_id_of
from flows.catalog.samples import newest_label
from flows.context import Context
from flows.database.schema import SampleRow
from flows.errors import LabelsRefused
from flows.labels.dataset import read_dataset
from flows.labels.importing import ImportPolicy, ImportReport, import_dataset
from tests.flows.kit import CLASSES, TASK, box_label, label, picture


@pytest.fixture
def old_data(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    rows = ["stem,board,split"]
    for number in range(20):
        stem = f"{number:04d}"
        (folder / "images" / f"{stem}.jpg").write_bytes(picture(number))
        (folder / "labels" / f"{stem}.txt").write_text(f"{number % 3} 0.5 0.5 0.2 0.2\n")
        rows.append(f"{stem},board-{number % 2},{'base_val' if number >= 15 else 'base_train'}")
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    return folder


def _import(ctx: Context, folder: Path, golden_share: float = 0.3) -> ImportReport:
    data = read_dataset(folder)
    policy = ImportPolicy(class_names=data.class_names, golden_share=golden_share)
    return import_dataset(ctx, TASK, data.of_split("base_train"), policy)


def test_images_labels_and_slices_are_registered(ctx: Context, old_data: Path) -> None:
    """Every listed item becomes a labelled sample that knows it was imported, with its slices."""
    report = _import(ctx, old_data)
    assert (report.samples, report.labels, report.refused) == (15, 15, [])
    with ctx.database.reader() as session:
        rows = session.scalars(select(SampleRow)).all()
    assert {row.origin for row in rows} == {"import"}
    assert {row.slices["board"] for row in rows} == {"board-0", "board-1"}
    golden = sum(row.pinned_split == "golden" for row in rows)
    assert golden == report.golden
    assert 0 < golden < 15
    assert {row.pinned_split for row in rows} == {"golden", "train"}


def test_importing_again_changes_nothing(ctx: Context, old_data: Path) -> None:
    """The second import finds everything known and labels unchanged."""
    _import(ctx, old_data)
    again = _import(ctx, old_data)
    assert (again.samples, again.known, again.labels) == (0, 15, 0)


def test_newer_labels_win_over_imported_ones(ctx: Context, old_data: Path) -> None:
    """A person's correction here is not undone by importing the old data again."""
    _import(ctx, old_data)
    sample_id = sample_id_of(picture(3))
    label(ctx, sample_id, box_label(2))
    assert _import(ctx, old_data).labels == 0
    with ctx.database.reader() as session:
        row = newest_label(session, TASK, sample_id)
    assert row is not None
    assert (row.imported, row.boxes[0]["class_id"]) == (False, 2)


def test_bad_items_are_listed_and_the_rest_goes_on(ctx: Context, old_data: Path) -> None:
    """Zero-byte images and bad label files are named; everything else is imported."""
    (old_data / "images" / "0001.jpg").write_bytes(b"")
    (old_data / "labels" / "0002.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    report = _import(ctx, old_data)
    assert report.samples == 13
    assert [reason[:8] for reason in report.refused] == ["0001.jpg", "0002.jpg"]
    assert "0002.txt line 1" in report.refused[1]


def test_a_data_set_of_other_classes_is_refused(ctx: Context, old_data: Path) -> None:
    """Old data whose ids mean something else is not imported at all."""
    (old_data / "classes.txt").write_text("missing\nscratch\nmisplaced\n")
    with pytest.raises(ClassListConflict):
        _import(ctx, old_data)


def test_a_folder_that_is_no_data_set_says_what_is_missing(old_data: Path) -> None:
    """The message names the file or the images that were expected."""
    (old_data / "images" / "0004.jpg").unlink()
    with pytest.raises(LabelsRefused, match="0004"):
        read_dataset(old_data)
    (old_data / "samples.csv").write_text("name\n0001\n")
    with pytest.raises(LabelsRefused, match="stem"):
        read_dataset(old_data)
    (old_data / "classes.txt").unlink()
    with pytest.raises(LabelsRefused, match=r"classes\.txt"):
        read_dataset(old_data)


def test_without_a_list_every_image_is_taken(old_data: Path) -> None:
    """A folder without samples.csv lists all its images."""
    (old_data / "samples.csv").unlink()
    assert len(read_dataset(old_data).items) == 20
