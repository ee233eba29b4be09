"""Test GStreamer pipelines: as text, as a stream of frames, and for real."""

from __future__ import annotations

import math
import os
import struct
import threading

import cv2
import numpy as np
import pytest

from edge_agent.errors import ConfigError, SourceError
from edge_agent.sources.checked import CheckedReader
from edge_agent.sources.faults import FaultLimits
from edge_agent.sources.gdp import BUFFER, CAPS, Plane, parse_caps, parse_head
from edge_agent.sources.gstreamer import FrameStream, launch_arguments
from edge_agent.sources.jetson import for_appsink, pipeline_of, with_tail, without_sink
from tests.edge_agent.sources.live_kit import gst, job_of, live, next_frame, read_on, snow

TAIL = "videoconvert ! video/x-raw,format=I420 ! gdppay ! fdsink fd=7 sync=false"
LEAKY = "queue leaky=downstream max-size-buffers=1 max-size-bytes=0 max-size-time=0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "csi?sensor=1&width=1280&height=720&fps=60",
            "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,"
            "framerate=60/1 ! nvvidconv",
        ),
        (
            "usb?device=/dev/video2&width=0&fps=0",
            "v4l2src device=/dev/video2 ! image/jpeg ! nvv4l2decoder mjpeg=1 ! nvvidconv",
        ),
        (
            "rtsp?url=rtsp://10.0.0.5/1&latency=50",
            "rtspsrc location=rtsp://10.0.0.5/1 protocols=tcp latency=50 tcp-timeout=5000000 ! rtph264depay ! "
            "h264parse ! nvv4l2decoder enable-max-performance=1 ! nvvidconv",
        ),
    ],
)
def test_ready_pipelines_are_written_out(name: str, expected: str) -> None:
    """A Jetson's elements, in order, with what was asked."""
    assert pipeline_of(name) == expected
    assert with_tail(pipeline_of(name), 7, leaky=True) == f"{expected} ! {LEAKY} ! {TAIL}"


@pytest.mark.parametrize(
    "name",
    [
        "gigabit",
        "csi?sensor=x",
        "csi?fps=-1",
        "usb?device=/dev/video0 ! filesink",
        "rtsp",
        "csi?width=9999999",
    ],
)
def test_a_ready_pipeline_that_does_not_exist_is_refused(name: str) -> None:
    """Nothing but numbers and single words gets into the text."""
    with pytest.raises(ConfigError, match=r"camera\.source"):
        pipeline_of(name)


def test_the_tail_replaces_a_foreign_sink_and_leaks_only_for_live_sources() -> None:
    """A pipeline written for OpenCV ends with an appsink; a file's frames may not be dropped."""
    assert without_sink("videotestsrc ! videoconvert ! appsink drop=1") == "videotestsrc ! videoconvert"
    assert without_sink("videotestsrc !") == without_sink("videotestsrc") == "videotestsrc"
    assert (
        with_tail("filesrc location=a ! decodebin", 7, leaky=False)
        == f"filesrc location=a ! decodebin ! {TAIL}"
    )
    assert for_appsink("x ! fdsink").endswith("appsink drop=true max-buffers=1 sync=false")


def test_quotes_hold_words_together() -> None:
    """Arguments are cut the way a shell would cut them."""
    words = launch_arguments(job_of("gst", 'videotestsrc ! "video/x-raw, width=64"'), 7)
    assert "video/x-raw, width=64" in words
    with pytest.raises(ConfigError, match="quotes"):
        launch_arguments(job_of("gst", 'videotestsrc ! "x'), 7)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"video/x-raw, format=(string)NV12, width=(int)64, height=(int)48",
        b"video/x-raw, format=(string)I420, width=(int)64",
        b"video/x-raw, format=(string)I420, width=(int)0, height=(int)0",
        b"video/x-raw, format=(string)I420, width=(int)9999999, height=(int)9999999",
        b"\xff\xfe",
    ],
)
def test_caps_that_are_none_are_refused(text: bytes) -> None:
    """Foreign bytes, other planes, absent and impossible sizes."""
    with pytest.raises(SourceError):
        parse_caps(text)


def test_a_packet_that_is_none_is_refused() -> None:
    """Whatever writes into the pipe must write packets."""
    assert parse_head(packet(BUFFER, b"123")) == (BUFFER, 3)
    for head in (b"R" * 62, b"\x01\x00\x00\x00\x00\x01" + b"\xff" * 56):
        with pytest.raises(SourceError, match="packet"):
            parse_head(head)


def packet(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBBBHI", 1, 0, 0, 0, kind, len(content)) + bytes(52) + content


def caps(width: int, height: int) -> bytes:
    words = f"video/x-raw, format=(string)I420, width=(int){width}, height=(int){height}, interlace-mode=(string)x"
    return packet(CAPS, words.encode() + b"\0")


def frame(width: int, height: int, value: int) -> bytes:
    """Draw a frame without padding."""
    image = np.full((height, width, 3), value, np.uint8)
    return packet(BUFFER, cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).tobytes())


def stream_of(content: bytes) -> FrameStream:
    near, far = os.pipe()

    def write() -> None:
        with os.fdopen(far, "wb") as file:
            file.write(content)

    threading.Thread(target=write, daemon=True).start()
    return FrameStream(near)


def test_frames_are_read_also_when_their_size_changes() -> None:
    """New caps begin another size; events in between are passed over; a frame that is cut off is none."""
    content = packet(73, b"stream-start") + caps(64, 48) + frame(64, 48, 100) + packet(70, b"")
    content += frame(64, 48, 200) + caps(32, 16) + frame(32, 16, 50) + frame(32, 16, 60)[:-9]
    stream = stream_of(content)
    found = []
    while stream.next_frame():
        picture = stream.picture(None)
        found.append(None if picture is None else (picture.shape, round(float(picture.mean()))))
    assert found == [((48, 64, 3), 100), ((48, 64, 3), 200), ((16, 32, 3), 50), None]
    stream.close()


@pytest.mark.parametrize("size", [(64, 48), (66, 48), (65, 47), (2, 2), (3, 5)])
def test_padding_is_taken_out_of_odd_sizes(size: tuple[int, int]) -> None:
    """GStreamer pads rows to four bytes; a padded picture read as packed would be a wrong one."""
    plane = Plane(*size)
    columns = math.ceil(size[0] / 2)
    row, half, rows = math.ceil(size[0] / 4) * 4, math.ceil(columns / 4) * 4, math.ceil(size[1] / 2) * 2
    light = np.zeros((rows, row), np.uint8)
    light[: size[1], : size[0]] = 126
    colours = np.zeros((2, rows // 2, half), np.uint8)
    colours[:, :, :columns] = 128
    data = np.concatenate([light.reshape(-1), colours.reshape(-1)])
    assert len(data) == plane.frame_bytes
    picture = cv2.cvtColor(plane.packed(data), cv2.COLOR_YUV2BGR_I420)
    assert picture.shape == plane.shape
    assert (picture == 128).all()


def test_a_picture_is_decoded_into_the_buffer_that_fits() -> None:
    """One that does not fit is left alone."""
    stream = stream_of(caps(64, 48) + frame(64, 48, 9) * 2)
    fits, other = np.zeros((48, 64, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    assert stream.next_frame()
    assert stream.picture(fits) is fits
    assert stream.next_frame()
    assert stream.picture(other) is not other
    assert other.max() == 0
    assert not stream.next_frame()
    stream.close()


def test_a_frame_of_another_length_than_its_caps_say_is_an_error() -> None:
    """Rather no picture than a wrong one."""
    stream = stream_of(caps(64, 48) + frame(32, 16, 9))
    with pytest.raises(SourceError, match="4608 bytes of 64x48"):
        stream.next_frame()
    stream.close()


def test_a_real_pipeline_gives_frames_in_any_size_and_its_colours() -> None:
    """`gst-launch-1.0` draws, we read: no power of two, and blue is blue."""
    gst()
    pipeline = (
        "videotestsrc is-live=true pattern=blue ! video/x-raw,width=1282,height=722,framerate=30/1 ! appsink"
    )
    with live("gst", pipeline) as kit:
        image = kit.frame().image
        assert image.shape == (722, 1282, 3)
        assert image[..., 0].min() > 240
        assert image[..., 1:].max() < 16


def test_a_camera_that_changes_its_size_goes_on_and_is_reported() -> None:
    """Through the child and its ring: every frame is a whole picture of the size it says."""
    gst()
    size = "videotestsrc num-buffers=5 pattern=blue ! video/x-raw,format=I420,width={},height={}"
    pipeline = f"concat name=c {size.format(64, 48)} ! c. {size.format(130, 98)} ! c. c."
    with live("gst", pipeline, waits=True, options={"newest": False, "follow": False}) as kit:
        reader = CheckedReader(kit.reader, FaultLimits(), kit.counters, kit.events)
        frames = [next_frame(reader) for _ in range(10)]
        assert [frame.image.shape for frame in frames] == [(48, 64, 3)] * 5 + [(98, 130, 3)] * 5
        assert all(frame.image[..., 0].min() > 240 and frame.image[..., 1].max() < 16 for frame in frames)
        assert kit.events.problems() == {"capture.size-changed": "64x48 became 130x98"}
        assert kit.events.count("camera.size-changed") == 1


def test_the_ready_test_pipeline_runs() -> None:
    """The same tail that Jetsons use, with a drawn picture."""
    gst()
    with live("jetson", "test?width=320&height=240&fps=30&pattern=smpte") as kit:
        assert kit.frame().image.shape == (240, 320, 3)


def test_a_pipeline_that_cannot_run_says_why() -> None:
    """The program's own words are in the error."""
    gst()
    with (
        live("gst", "nosuchelement ! videoconvert") as kit,
        pytest.raises(SourceError, match="nosuchelement"),
    ):
        read_on(kit.reader)


def test_a_pipeline_that_ends_ends_its_child() -> None:
    """A source that is not followed is over with its stream."""
    gst()
    with live(
        "gst", snow(more="num-buffers=3"), options={"follow": False, "newest": False}, waits=True
    ) as kit:
        assert [kit.frame().frame_in_part for _ in range(3)] == [0, 0, 0]
        with pytest.raises(SourceError, match="end of stream"):
            read_on(kit.reader)
        assert kit.reader.is_ended()
        assert kit.reader.child_pid is None
