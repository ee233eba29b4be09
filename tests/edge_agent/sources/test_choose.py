"""Test that the configuration chooses reader, checks, trigger and the way frames are passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import CameraConfig
from edge_agent.counters import Counters
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.settings.camera import FaultConfig, TriggerConfig
from edge_agent.sources.base import FrameReader
from edge_agent.sources.checked import CheckedReader
from edge_agent.sources.choose import (
    SourceFolders,
    buffers_for,
    capture_options,
    choose_reader,
    fault_limits,
    is_never_silent,
    live_reader,
    part_idle_s,
)
from edge_agent.sources.live import LiveReader
from edge_agent.sources.triggered import TriggeredReader


def reader_of(folder: Path, **camera: object) -> FrameReader:
    return choose_reader(CameraConfig(**camera), SourceFolders(folder), (), Counters(), Events())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("folder:/x", "FolderReader"),
        ("video:/x.avi", "VideoReader"),
        ("0", "LiveReader"),
        ("rtsp://camera/1", "LiveReader"),
        ("genicam:simulator", "LiveReader"),
    ],
)
def test_the_source_names_its_reader(tmp_path: Path, source: str, kind: str) -> None:
    """Files are read here, everything live in a child; all are checked."""
    reader = reader_of(tmp_path, source=source)
    assert isinstance(reader, CheckedReader)
    assert type(reader._reader).__name__ == kind


@pytest.mark.parametrize(
    ("camera", "mode"),
    [
        ({"source": "folder:/x"}, "every"),
        ({"source": "video:/x"}, "every"),
        ({"source": "rtsp://camera/1"}, "live"),
        ({"source": "folder:/x", "mode": "live"}, "live"),
        ({"source": "rtsp://camera/1", "mode": "every"}, "every"),
        ({"source": "0", "trigger": {"kind": "file", "path": "x"}}, "parts"),
    ],
)
def test_live_sources_let_the_newest_win_unless_told_otherwise(camera: dict[str, object], mode: str) -> None:
    """Files skip nothing; triggered frames are parts."""
    config = CameraConfig.model_validate(camera)
    assert capture_options(config).mode == mode
    assert is_never_silent(config) == (
        mode == "live" and "folder" not in str(camera) or mode == "every" and "rtsp" in str(camera)
    )


def test_a_trigger_is_put_around_a_camera_and_names_the_parts(tmp_path: Path) -> None:
    """The live reader gives single frames; the trigger groups them."""
    trigger = TriggerConfig(kind="file", path=tmp_path / "pulses", delay_ms=250.0)
    camera = CameraConfig(source="0", trigger=trigger, frames_per_part=3)
    reader = choose_reader(camera, SourceFolders(tmp_path), (), Counters(), Events())
    assert isinstance(reader, TriggeredReader)
    assert (reader._options.delay_s, reader._options.frames_per_part) == (0.25, 3)
    live = live_reader(camera, 8, Counters(), Events())
    assert live._options.frames_per_part == 1
    reader.close()


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ({"source": "jetson:gigabit"}, "gigabit"),
        ({"source": "gst:videotestsrc 'x"}, "quotes"),
        ({"source": "genicam:/opt/maker.cti#7"}, r"whetstone-edge\[genicam\]"),
        ({"source": "0", "credentials_file": "/nowhere"}, "nowhere"),
    ],
)
def test_what_can_never_work_is_refused_at_the_start(
    tmp_path: Path, camera: dict[str, object], words: str
) -> None:
    """Not tried for ever in a child."""
    with pytest.raises(ConfigError, match=words):
        reader_of(tmp_path, **camera)


def test_credentials_are_for_urls_only(tmp_path: Path) -> None:
    """Everybody on the box can read a pipeline's arguments."""
    login = tmp_path / "login"
    login.write_text("box:secret")
    with pytest.raises(ConfigError, match="seen by every user"):
        reader_of(tmp_path, source="genicam:simulator", credentials_file=login)
    reader = live_reader(
        CameraConfig(source="rtsp://camera/1", credentials_file=login), 8, Counters(), Events()
    )
    assert reader._job.target == "rtsp://box:secret@camera/1"
    assert isinstance(reader, LiveReader)
    assert "secret" not in reader._where


def test_the_source_does_not_stand_in_the_configurations_words() -> None:
    """It may carry a password."""
    assert "secret" not in repr(CameraConfig(source="rtsp://box:secret@camera/1"))


def test_files_are_not_checked_for_standing_still() -> None:
    """A folder may hold the same picture twice; a size that was fixed holds for both."""
    faults = FaultConfig(black=False, frozen_s=3.0)
    assert fault_limits(CameraConfig(source="folder:/x", faults=faults)).frozen_s == 0.0
    limits = fault_limits(CameraConfig(source="0", faults=faults, width=640, height=480))
    assert (limits.black, limits.frozen_s, limits.width, limits.height) == (False, 3.0, 640, 480)
    with pytest.raises(ValueError, match="give both or neither"):
        CameraConfig(source="0", width=640)


def test_there_are_more_buffers_than_the_outbox_can_hold() -> None:
    """A slow disk costs examples, and no frame that would be inspected."""
    assert buffers_for(CameraConfig(source="0"), 32) == 48
    assert buffers_for(CameraConfig(source="0", buffers=7), 32, 64) == 112
    assert buffers_for(CameraConfig(source="0", buffers=200), 32) == 200
    with pytest.raises(ConfigError, match="at most 239"):
        live_reader(CameraConfig(source="0"), 256, Counters(), Events())


def test_the_loop_waits_longer_for_a_part_than_its_source() -> None:
    """A part decided before its source gave it up would be decided twice, first without all its frames."""
    trigger = TriggerConfig(kind="file", path=Path("pulses"), timeout_s=3.0)
    assert part_idle_s(CameraConfig(source="folder:/x", frames_per_part=3)) == 0.5
    assert part_idle_s(CameraConfig(source="0")) == 0.5
    assert part_idle_s(CameraConfig(source="0", frames_per_part=3, stall_s=4.0)) > 4.0
    assert part_idle_s(CameraConfig(source="0", trigger=trigger)) > 3.0


def test_no_frame_is_kept_from_a_part_of_several(tmp_path: Path) -> None:
    """Without its black frame the part would be accepted; a triggered part chooses among all frames."""
    several = reader_of(tmp_path, source="0", frames_per_part=2)
    alone = reader_of(tmp_path, source="0")
    assert isinstance(several, CheckedReader)
    assert isinstance(alone, CheckedReader)
    assert (several._withhold, alone._withhold) == (False, True)
    trigger = TriggerConfig(kind="file", path=tmp_path / "pulses")
    assert not live_reader(CameraConfig(source="0", trigger=trigger), 8, Counters(), Events())._options.newest
