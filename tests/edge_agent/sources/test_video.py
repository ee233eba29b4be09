"""Test video files and streams through OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edge_agent.config import CameraConfig
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources.choose import choose_reader
from edge_agent.sources.opencv import OpenCvReader
from edge_agent.sources.video import VideoReader
from tests.edge_agent.builders import picture


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line 1.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 64))
    assert writer.isOpened()
    for number in range(6):
        writer.write(picture(number * 40))
    writer.release()
    return path


def test_a_video_gives_its_frames_as_parts_and_ends(video: Path) -> None:
    """Every frame is a part of its own, named after the file."""
    reader = VideoReader(video, ())
    parts = []
    while not reader.is_ended():
        frame = reader.read(0.1)
        if frame is not None:
            parts.append(frame.part_id)
    assert parts == [f"line-1-{number:06d}" for number in range(6)]
    reader.close()


def test_a_video_goes_on_behind_the_last_done_frame(video: Path) -> None:
    """A restart neither repeats nor skips."""
    frame = VideoReader(video, {"0", "1", "3"}).read(0.1)
    assert frame is not None
    assert frame.token == "4"
    assert abs(float(frame.image.mean()) - float(picture(160).mean())) < 6


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(SourceError, match=r"none\.avi"):
        VideoReader(tmp_path / "none.avi", ()).read(0.1)


def test_a_stream_gives_frames_and_is_opened_again_when_it_ends(video: Path) -> None:
    """A lost stream is an error the capture waits on; the next read opens it again."""
    reader = OpenCvReader(str(video), "cam0", follow=True)
    for _ in range(6):
        assert reader.read(0.1) is not None
    with pytest.raises(SourceError, match="end of stream"):
        reader.read(0.1)
    assert not reader.is_ended()
    assert reader.read(0.1) is not None
    reader.close()


def test_a_stream_that_is_not_followed_ends(tmp_path: Path) -> None:
    """Without follow there is no second try, and no password in the error."""
    reader = OpenCvReader("file://user:secret@nowhere/none.avi", "cam0", follow=False)
    with pytest.raises(SourceError) as caught:
        reader.read(0.1)
    assert "secret" not in str(caught.value)
    assert reader.is_ended()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("folder:/x", "FolderReader"),
        ("video:/x.avi", "VideoReader"),
        ("0", "OpenCvReader"),
        ("rtsp://camera/1", "OpenCvReader"),
        ("videotestsrc ! appsink", "OpenCvReader"),
    ],
)
def test_the_source_names_its_reader(tmp_path: Path, source: str, kind: str) -> None:
    """The word before the colon chooses; everything else is OpenCV's."""
    reader = choose_reader(CameraConfig(source=source), tmp_path, (), Counters(), Events())
    assert type(reader).__name__ == kind
