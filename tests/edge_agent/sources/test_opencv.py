"""Test what is asked of V4L2 cameras and streams; no V4L2 device was there."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from edge_agent.errors import ConfigError, SourceError
from edge_agent.sources.opencv import OpenCvGrabber, apply_settings, stream_parameters, v4l2_settings
from tests.edge_agent.builders import picture
from tests.edge_agent.sources.live_kit import job_of, live, read_on


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 64))
    for number in range(4):
        writer.write(picture(number * 40))
    writer.release()
    return path


def test_settings_are_asked_in_the_order_drivers_want() -> None:
    """Format before size before rate; what was not configured is left alone."""
    job = job_of("v4l2", "0", width=1280, height=720, fps=30.0, pixel_format="MJPG")
    assert [(name, value) for name, _, value in v4l2_settings(job)] == [
        ("pixel_format", float(cv2.VideoWriter.fourcc(*"MJPG"))),
        ("width", 1280.0),
        ("height", 720.0),
        ("fps", 30.0),
        ("buffers", 2.0),
    ]
    assert [name for name, _, _ in v4l2_settings(job_of("v4l2", "0"))] == ["buffers"]
    with pytest.raises(ConfigError, match="BayerRG8"):
        v4l2_settings(job_of("v4l2", "0", pixel_format="BayerRG8"))


def test_what_came_out_otherwise_is_read_back_and_told(video: Path) -> None:
    """A video file takes no orders, as many a camera does not."""
    job = job_of("v4l2", "0", width=1280, height=64, fps=10.0, pixel_format="YUYV")
    capture = cv2.VideoCapture(str(video))
    assert apply_settings(capture, v4l2_settings(job)) == (
        "pixel_format: asked YUYV, got MJPG",
        "width: asked 1280, got 64",
    )
    capture.release()


def test_timeouts_are_said_at_the_opening() -> None:
    """OpenCV ignores them later, or without the backend's name."""
    asked = stream_parameters(job_of("url", "rtsp://x", open_s=2.5, stall_s=1.0, decode_threads=3))
    assert asked[:4] == [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 2500, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000]
    assert asked[4:] == [cv2.CAP_PROP_N_THREADS, 3]


@pytest.mark.parametrize("target", ["77", "/dev/video77"])
def test_a_device_that_is_not_there_is_named(target: str) -> None:
    """By number or by path, in the child and through it."""
    with pytest.raises(SourceError, match=target):
        OpenCvGrabber(job_of("v4l2", target)).open()
    with live("v4l2", target) as kit, pytest.raises(SourceError, match=f"{target}: expected a camera"):
        read_on(kit.reader)


def test_a_stream_gives_frames_and_is_opened_again_when_it_ends(video: Path) -> None:
    """A lost stream is an error the capture waits on; the next read opens it again."""
    with live("url", str(video), waits=True, options={"newest": False}) as kit:
        for _ in range(2):
            for _ in range(4):
                assert kit.frame().image.shape == (64, 64, 3)
            with pytest.raises(SourceError, match="end of stream"):
                read_on(kit.reader)
            assert not kit.reader.is_ended()


def test_a_stream_that_is_not_followed_ends() -> None:
    """Without follow there is no second try, and no password in the error."""
    with live("url", "file://user:secret@nowhere/none.avi", options={"follow": False}) as kit:
        with pytest.raises(SourceError) as caught:
            read_on(kit.reader)
        assert "secret" not in str(caught.value)
        assert kit.reader.is_ended()
