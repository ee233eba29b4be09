"""Folders of real images: the layout is checked whole before anything starts, and errors name files."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.errors import BadDataset
from demo.images.layout import SPLITS, read_boxes, read_image_folder
from tests.helpers import shared_data


def _folder(path: Path) -> Path:
    for name in ("images", "labels"):
        (path / name).mkdir(parents=True)
    rows = ["stem,board,split"]
    for number, split in enumerate(SPLITS):
        (path / "images" / f"p{number}.jpg").write_bytes(b"not opened here")
        (path / "labels" / f"p{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
        rows.append(f"p{number},board-1,{split}")
    (path / "samples.csv").write_text("\n".join(rows) + "\n")
    (path / "classes.txt").write_text("open\nshort\n")
    return path


def test_reads_a_sound_folder(tmp_path: Path) -> None:
    """Every split has its images, with labels and board."""
    folder = read_image_folder(_folder(tmp_path / "data"))
    assert folder.class_names == ("open", "short")
    assert [row.stem for row in folder.split("new_pool")] == ["p2"]
    assert folder.rows[0].boxes()[0].width == 0.1


@pytest.mark.parametrize("name", ["images", "labels", "samples.csv", "classes.txt"])
def test_names_what_is_missing(tmp_path: Path, name: str) -> None:
    """A folder without one of its four things is refused by that name."""
    folder = _folder(tmp_path / "data")
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(BadDataset, match=f"no {name}"):
        read_image_folder(folder)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("labels/p0.txt", "5 0.5 0.5 0.1 0.1\n", r"labels/p0\.txt: expected classes 0 to 1, got \[5\]"),
        ("labels/p1.txt", "0 0.5 0.5 0.1\n", r"labels/p1\.txt line 1: expected 'class cx cy width height'"),
        ("labels/p1.txt", "0 0.5 1.5 0.1 0.1\n", r"labels/p1\.txt line 1"),
        ("samples.csv", "stem,split\np0,base_train\n", r"expected columns"),
        ("samples.csv", "stem,board,split\np0,b,training\n", r"samples\.csv line 2: expected a split of"),
        ("samples.csv", "stem,board,split\np9,b,new_val\n", r"samples\.csv line 2: no image for 'p9'"),
        ("samples.csv", "stem,board,split\np0,b,new_val\n", r"no image of split base_train"),
        ("classes.txt", "open\nopen\n", r"classes\.txt: expected different names"),
    ],
)
def test_bad_content_is_named(tmp_path: Path, file: str, content: str, told: str) -> None:
    """What is wrong is told with file and line."""
    folder = _folder(tmp_path / "data")
    (folder / file).write_text(content)
    with pytest.raises(BadDataset, match=told):
        read_image_folder(folder)


def test_missing_label_file_is_named(tmp_path: Path) -> None:
    """An image without a label file is a problem, not a picture of nothing."""
    folder = _folder(tmp_path / "data")
    (folder / "labels" / "p3.txt").unlink()
    with pytest.raises(BadDataset, match=r"labels/p3\.txt: no such file"):
        read_image_folder(folder)


def test_empty_label_file_says_nothing_here(tmp_path: Path) -> None:
    """An empty file is a label: there is nothing in the image."""
    (tmp_path / "empty.txt").write_text("")
    assert read_boxes(tmp_path / "empty.txt") == ()


def test_reads_the_real_boards() -> None:
    """The DeepPCB folder has the layout."""
    folder = read_image_folder(shared_data("data/deeppcb"))
    assert {split: len(folder.split(split)) for split in SPLITS} == {
        "base_train": 739, "base_val": 123, "new_pool": 221, "new_val": 85,
    }  # fmt: skip
