"""The played labeller: sees what was uploaded, once, and takes no name the class list does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.line.script import ALL_CLASSES, FIRST_CLASSES
from demo.loop.labeller import Labeller, Uploaded, label_text

SCRATCH = "0 0.5 0.5 0.1 0.1\n"
STAIN = "3 0.2 0.2 0.1 0.1\n"


@pytest.fixture
def floor(tmp_path: Path) -> Path:
    """Lay out a truth folder of one line."""
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "box-a-000001.txt").write_text(SCRATCH)
    (truth / "box-a-000002.txt").write_text(STAIN)
    (truth / "box-a-000003.txt").write_text("")
    return tmp_path


def _labeller(floor: Path) -> Labeller:
    return Labeller(floor / "labels", {"box-a": floor / "truth"})


def _names(floor: Path) -> set[str]:
    return {path.name for path in (floor / "labels").iterdir()}


def test_labels_only_what_was_uploaded(floor: Path) -> None:
    """A part nobody sent gets no label, and a good part gets an empty file."""
    work = _labeller(floor).work([Uploaded("aa", "box-a-000001"), Uploaded("cc", "box-a-000003")], FIRST_CLASSES)
    assert (work.written, work.set_aside, work.unknown) == (2, 0, 0)
    assert _names(floor) == {"aa.txt", "cc.txt", "classes.txt"}
    assert (floor / "labels" / "aa.txt").read_text() == SCRATCH
    assert (floor / "labels" / "cc.txt").read_text() == ""


def test_sets_aside_what_has_no_name_until_the_class_is_added(floor: Path) -> None:
    """A stain waits for its class; after the command it is labelled under the longer list."""
    labeller, samples = _labeller(floor), [Uploaded("bb", "box-a-000002")]
    assert labeller.work(samples, FIRST_CLASSES).set_aside == 1
    assert "bb.txt" not in _names(floor)
    assert labeller.work(samples, ALL_CLASSES).written == 1
    assert (floor / "labels" / "classes.txt").read_text().split() == list(ALL_CLASSES)


def test_labelling_twice_is_labelling_once(floor: Path) -> None:
    """A labeller started again leaves the labels that are there alone."""
    samples = [Uploaded("aa", "box-a-000001")]
    assert _labeller(floor).work(samples, FIRST_CLASSES).written == 1
    assert _labeller(floor).work(samples, FIRST_CLASSES).written == 0


def test_part_of_no_line_is_counted(floor: Path) -> None:
    """A sample of a part the simulator never made is counted and not labelled."""
    assert _labeller(floor).work([Uploaded("dd", "press-7-000001")], FIRST_CLASSES).unknown == 1


def test_label_text_of_an_unnamed_kind_is_none() -> None:
    """Truth with a kind outside the list gives no text at all, never a part of it."""
    assert label_text(SCRATCH + STAIN, FIRST_CLASSES) is None
    assert label_text(SCRATCH + STAIN, ALL_CLASSES) == SCRATCH + STAIN
