"""Test RTSP against GStreamer's real server: streams, stalls, comes back, asks for a password."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from edge_agent.config import CameraConfig
from edge_agent.counters import Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources import Capture
from edge_agent.sources.choose import SourceFolders, capture_options, choose_reader
from tests.edge_agent.sources.live_kit import RtspServer, next_frame, read_on, rtsp_server
from tests.helpers import wait_until


def camera_of(server: RtspServer, **more: object) -> CameraConfig:
    limits = {"stall_s": 1.0, "open_s": 8.0, "retry_max_s": 0.5}
    return CameraConfig(**{"source": server.url, **limits, **more})  # type: ignore[arg-type]


def test_a_stream_that_stalls_and_a_server_that_dies_both_come_back(tmp_path: Path) -> None:
    """A server that is held keeps its connection open, so that only the watchdog notices."""
    with rtsp_server() as server:
        counters, events = Counters(), Events()
        camera = camera_of(server)
        reader = choose_reader(camera, SourceFolders(tmp_path), (), counters, events)
        capture = Capture(reader, capture_options(camera), counters, events)
        capture.start()
        try:
            wait_until(lambda: capture.read(0.1) is not None, 15, "frames")
            server.signal(signal.SIGSTOP)
            wait_until(lambda: "source.away" in events.problems(), 6, "the stall to be told")
            assert events.count("camera.stalled") + ("end of stream" in events.problems()["source.away"]) == 1
            server.signal(signal.SIGCONT)
            wait_until(lambda: events.problems() == {} and capture.read(0.1) is not None, 20, "frames again")
            server.stop()
            wait_until(lambda: "source.away" in events.problems(), 10, "the loss to be told")
            server.start()
            wait_until(lambda: events.problems() == {} and capture.read(0.1) is not None, 20, "frames again")
        finally:
            capture.stop(5.0)


def test_the_password_comes_from_a_file_and_is_never_told(tmp_path: Path) -> None:
    """With the right one frames come; with a wrong one the error names the address alone."""
    login = tmp_path / "camera.login"
    with rtsp_server("box", "s3cr/t") as server:
        login.write_text("box:s3cr/t\n")
        camera = camera_of(server, credentials_file=login)
        reader = choose_reader(camera, SourceFolders(tmp_path), (), Counters(), Events())
        assert next_frame(reader, 15).image.shape == (120, 160, 3)
        reader.close()
        login.write_text("box:wr0ng\n")
        reader = choose_reader(camera, SourceFolders(tmp_path), (), Counters(), Events())
        with pytest.raises(SourceError, match="401") as caught:
            read_on(reader)
        assert "wr0ng" not in str(caught.value)
        assert server.url in str(caught.value)
        reader.close()


def test_a_server_that_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    """It accepts the connection and says nothing: `open_s` bounds the wait for the first frame."""
    with rtsp_server() as server:
        server.signal(signal.SIGSTOP)
        events = Events()
        reader = choose_reader(camera_of(server, open_s=1.0), SourceFolders(tmp_path), (), Counters(), events)
        with pytest.raises(SourceError):
            read_on(reader)
        reader.close()
