"""Test the folder source: each image once, in order, and nothing unreadable in the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edge_agent.counters import UNREADABLE, Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.base import clean_part_id, part_of_name
from edge_agent.sources.folder import FolderOptions, FolderReader
from tests.edge_agent.builders import jpeg, put_image

BEGUN = int(time.time())


def reader_of(folder: Path, *, seen: set[str] | None = None, follow: bool = True) -> FolderReader:
    options = FolderOptions(folder, folder.parent / "quarantine", ("jpg", "png"), follow=follow)
    return FolderReader(options, seen or set(), Counters(), Events())


def names_read(reader: FolderReader, count: int) -> list[str]:
    found: list[str] = []
    deadline = time.monotonic() + 5
    while len(found) < count and time.monotonic() < deadline and not reader.is_ended():
        frame = reader.read(0.1)
        if frame is not None:
            found.append(frame.token)
    return found


def old(path: Path, seconds: float = 100.0) -> Path:
    moment = BEGUN - seconds
    os.utime(path, (moment, moment))
    return path


def test_images_come_oldest_first_and_each_once(tmp_path: Path) -> None:
    """Order is by time of writing, then by name; nothing is read twice."""
    folder = tmp_path / "frames"
    for age, name in ((10, "b__0.jpg"), (30, "c__0.jpg"), (20, "a__1.jpg"), (20, "a__0.jpg")):
        old(put_image(folder, name, jpeg(age)), age)
    reader = reader_of(folder)
    assert names_read(reader, 4) == ["c__0.jpg", "a__0.jpg", "a__1.jpg", "b__0.jpg"]
    assert reader.read(0.05) is None


def test_a_new_image_is_found_while_watching(tmp_path: Path) -> None:
    """Files renamed into the folder come soon, in one tick of the clock with others too."""
    folder = tmp_path / "frames"
    put_image(folder, "a.jpg", jpeg(1))
    reader = reader_of(folder)
    assert names_read(reader, 1) == ["a.jpg"]
    for number in range(20):
        put_image(folder, f"b{number:02d}.jpg", jpeg(2))
        if number % 5 == 0:
            reader.read(0.0)
    reader_names = names_read(reader, 16)
    assert reader_names[-1] == "b19.jpg"
    assert reader.read(0.05) is None


def test_the_bytes_of_a_jpeg_are_kept_and_of_others_not(tmp_path: Path) -> None:
    """A .jpg is uploaded as it is; anything else is encoded."""
    folder = tmp_path / "frames"
    content = jpeg(3)
    put_image(folder, "part-7__2.jpg", content)
    frame = reader_of(folder).read(1.0)
    assert frame is not None
    assert (frame.part_id, frame.frame_in_part, frame.jpeg) == ("part-7", 2, content)
    assert frame.image.shape == (64, 64, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all", jpeg(4)[:300]])
def test_an_unreadable_image_is_quarantined_and_counted(tmp_path: Path, content: bytes) -> None:
    """Zero bytes, foreign bytes and cut-off files are set aside with their bytes; the rest goes on."""
    folder = tmp_path / "frames"
    old(put_image(folder, "bad.jpg", content), 200)
    put_image(folder, "good.jpg", jpeg(5))
    counters, events = Counters(), Events()
    options = FolderOptions(folder, tmp_path / "quarantine", ("jpg",))
    reader = FolderReader(options, (), counters, events)
    assert names_read(reader, 1) == ["good.jpg"]
    assert (tmp_path / "quarantine" / "bad.jpg").read_bytes() == content
    assert counters.value(UNREADABLE) == 1
    assert events.count("source.unreadable") == 1


def test_what_cannot_be_read_is_set_aside_and_counted(tmp_path: Path) -> None:
    """A name that the system will not read as a file is no frame that vanished, but one that is missing."""
    folder = tmp_path / "frames"
    (folder / "bad.jpg").mkdir(parents=True)
    old(folder / "bad.jpg", 200)
    put_image(folder, "good.jpg", jpeg(5))
    counters, events = Counters(), Events()
    reader = FolderReader(FolderOptions(folder, tmp_path / "quarantine", ("jpg",)), (), counters, events)
    assert names_read(reader, 1) == ["good.jpg"]
    assert (tmp_path / "quarantine" / "bad.jpg").is_dir()
    assert counters.value(UNREADABLE) == 1
    assert (events.count("source.unreadable"), events.count("source.vanished")) == (1, 0)


def test_an_image_that_is_taken_away_is_not_unreadable(tmp_path: Path) -> None:
    """Who deletes a frame before it was read has his reasons; it is told, and not counted against the disk."""
    folder = tmp_path / "frames"
    for age, name in ((20, "a.jpg"), (10, "b.jpg")):
        old(put_image(folder, name, jpeg(age)), age)
    counters, events = Counters(), Events()
    reader = FolderReader(FolderOptions(folder, tmp_path / "quarantine", ("jpg",)), (), counters, events)
    assert names_read(reader, 1) == ["a.jpg"]
    (folder / "b.jpg").unlink()
    assert reader.read(0.05) is None
    assert (events.count("source.vanished"), counters.value(UNREADABLE)) == (1, 0)


def test_a_link_that_points_nowhere_spares_the_other_images(tmp_path: Path) -> None:
    """One bad entry is no reason to see none of the others."""
    folder = tmp_path / "frames"
    put_image(folder, "good.jpg", jpeg(5))
    (folder / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    reader = reader_of(folder)
    assert names_read(reader, 1) == ["good.jpg"]
    assert reader.read(0.05) is None


def test_a_file_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """A writer that does not rename costs a moment, not an image."""
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "slow.jpg").write_bytes(jpeg(6)[:200])
    reader = reader_of(folder)
    assert reader.read(0.1) is None
    (folder / "slow.jpg").write_bytes(jpeg(6))
    assert names_read(reader, 1) == ["slow.jpg"]


def test_a_restart_goes_on_behind_what_was_done(tmp_path: Path) -> None:
    """Names that are done are never read again."""
    folder = tmp_path / "frames"
    for number in range(3):
        put_image(folder, f"p{number}.jpg", jpeg(number))
    assert names_read(reader_of(folder, seen={"p0.jpg", "p1.jpg"}, follow=False), 3) == ["p2.jpg"]


def test_a_folder_that_is_not_watched_ends(tmp_path: Path) -> None:
    """After the last image the source is ended, also if that one was unreadable."""
    folder = tmp_path / "frames"
    put_image(folder, "a.jpg", jpeg(1))
    old(put_image(folder, "z.jpg", b""), 50)
    reader = reader_of(folder, follow=False)
    assert names_read(reader, 5) == ["a.jpg"]
    assert reader.is_ended()


def test_a_missing_folder_is_waited_for(tmp_path: Path) -> None:
    """A share that is not mounted is an error that says so, and no end."""
    reader = reader_of(tmp_path / "frames")
    with pytest.raises(SourceError, match="frames"):
        reader.read(0.1)
    put_image(tmp_path / "frames", "a.jpg", jpeg(1))
    assert names_read(reader, 1) == ["a.jpg"]


def test_hidden_temporary_and_other_files_are_left_alone(tmp_path: Path) -> None:
    """Only the configured endings are read."""
    folder = tmp_path / "frames"
    for name in (".a.jpg", "notes.txt", "b.jpg.tmp", "c.JPG"):
        put_image(folder, name, jpeg(1))
    assert names_read(reader_of(folder, follow=False), 5) == ["c.JPG"]
    assert (folder / "notes.txt").exists()


@pytest.mark.parametrize(
    ("stem", "part", "number"),
    [
        ("board-1__3", "board-1", 3),
        ("board-1", "board-1", 0),
        ("a__b__12", "a__b", 12),
        ("a__b", "a__b", 0),
        ("__5", "5", 0),
        ("böard 1__0", "b-ard-1", 0),
        ("x" * 200, "x" * 128, 0),
    ],
)
def test_part_and_frame_are_read_from_the_name(stem: str, part: str, number: int) -> None:
    """Whatever a file is called, its part id is valid."""
    assert part_of_name(stem) == (part, number)


def test_a_part_id_is_never_empty() -> None:
    """Names of signs alone become a part as well."""
    assert clean_part_id("...") == "part"
