"""Test the GenICam driver against the simulator that ships with it; no hardware was there."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import ConfigError, SourceError
from edge_agent.sources.genicam import GenicamGrabber, to_bgr
from edge_agent.sources.genicam_twin import BUFFERS, Harvester
from tests.edge_agent.sources.live_kit import job_of, live

RED = (20, 20, 220)


def grabber_of(**more: object) -> GenicamGrabber:
    return GenicamGrabber(job_of("genicam", "simulator#SIM-1", **more))


@pytest.mark.parametrize("name", ["BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8", "RGB8", "BGR8"])
def test_colours_come_out_right_in_every_format(name: str) -> None:
    """The simulator draws a red square; a Bayer pattern named wrongly would make it blue or green."""
    grabber = grabber_of(pixel_format=name)
    assert grabber.open() == ()
    assert grabber.grab()
    image = grabber.retrieve(None)
    grabber.close()
    assert image is not None
    # The middle of the square, away from the edges that a Bayer pattern blurs.
    assert np.abs(image[12:20, 6:13].astype(int) - RED).max() <= 2


@pytest.mark.parametrize(("name", "level"), [("Mono8", 220), ("Mono10", 220)])
def test_grey_and_deep_formats_become_bgr(name: str, level: int) -> None:
    """More than eight bits are cut to eight."""
    grabber = grabber_of(pixel_format=name)
    grabber.open()
    grabber.grab()
    image = grabber.retrieve(np.zeros((48, 64, 3), np.uint8))
    grabber.close()
    assert image is not None
    assert image.shape == (48, 64, 3)
    assert int(image.max()) == level


def test_a_format_that_is_not_read_is_named() -> None:
    """Packed pixels are refused with what to set instead."""
    with pytest.raises(SourceError, match=r"Mono12Packed.*pixel_format"):
        to_bgr(np.zeros(12, np.uint8), (2, 2), "Mono12Packed", None)


def test_buffers_are_given_back_also_when_skipped() -> None:
    """A stream whose buffers are kept runs dry."""
    grabber = grabber_of(fps=100.0)
    grabber.open()
    for number in range(BUFFERS * 3):
        assert grabber.grab()
        if number % 2:
            grabber.skip()
    grabber.close()
    grabber.close()


def test_what_the_camera_does_otherwise_is_told() -> None:
    """Values are read back; a name that no camera has is told too."""
    words = grabber_of(width=64, height=4000, fps=30.0).open()
    assert words == ("Height: asked 4000, got 96",)


def test_an_unknown_serial_is_an_error_and_a_missing_package_a_wrong_configuration() -> None:
    """Both say what to do."""
    with pytest.raises(SourceError, match="serial number"):
        GenicamGrabber(job_of("genicam", "simulator#other")).open()
    with pytest.raises(ConfigError, match=r"whetstone-edge\[genicam\]"):
        GenicamGrabber(job_of("genicam", "/opt/maker.cti#1")).open()


def test_the_simulator_is_as_strict_as_the_real_one() -> None:
    """A camera is not used after it was destroyed, nor a buffer after it was given back."""
    harvester = Harvester()
    harvester.add_file("simulator")
    harvester.update()
    camera = harvester.create(0)
    camera.start()
    buffer = camera.try_fetch(timeout=1.0)
    assert buffer is not None
    buffer.queue()
    with pytest.raises(RuntimeError, match="queued"):
        _ = buffer.payload
    camera.stop()
    assert camera.try_fetch(timeout=0.01) is None
    camera.destroy()
    with pytest.raises(RuntimeError, match="destroyed"):
        camera.try_fetch(timeout=0.01)


def test_the_simulated_camera_runs_in_a_child() -> None:
    """The whole way, without a serial number."""
    with live("genicam", "simulator") as kit:
        assert kit.frame().image.shape == (48, 64, 3)
