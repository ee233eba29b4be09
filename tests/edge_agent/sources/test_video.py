"""Test video files through OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edge_agent.errors import SourceError
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


def test_a_video_waits_for_buffers_and_skips_nothing(video: Path) -> None:
    """While every buffer is in use the file waits; what is held does not change."""
    reader = VideoReader(video, (), buffers=2)
    held = [frame for frame in (reader.read(0.1), reader.read(0.1)) if frame is not None]
    assert reader.read(0.02) is None
    assert not reader.is_ended()
    means = [float(frame.image.mean()) for frame in held]
    rest: list[str] = []
    del held[0]
    while not reader.is_ended():
        frame = reader.read(0.1)
        if frame is not None:
            # Only the name is kept, so that the buffer comes free.
            assert frame.last_in_part
            rest.append(frame.part_id)
        del frame
    assert rest == [f"line-1-{number:06d}" for number in range(2, 6)]
    assert [float(frame.image.mean()) for frame in held] == means[1:]
    reader.close()
