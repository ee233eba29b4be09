"""Choose the reader that the configured source names, and put checks and trigger around it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config import CameraConfig
from edge_agent.counters import Counters
from edge_agent.errors import ConfigError
from edge_agent.events import Events
from edge_agent.sources.base import FrameReader
from edge_agent.sources.capture import CaptureOptions
from edge_agent.sources.checked import CheckedReader
from edge_agent.sources.credentials import Credentials, read_credentials
from edge_agent.sources.faults import FaultLimits
from edge_agent.sources.folder import FolderOptions, FolderReader
from edge_agent.sources.genicam import SIMULATOR
from edge_agent.sources.grab import SourceJob
from edge_agent.sources.gstreamer import PACKAGES, PROGRAM, launch_arguments
from edge_agent.sources.kinds import SourceName, parse_source, secrets_in, with_credentials
from edge_agent.sources.live import LiveOptions, LiveReader
from edge_agent.sources.ring import MOST_SLOTS
from edge_agent.sources.trigger import Trigger
from edge_agent.sources.triggered import TriggeredReader, TriggerOptions
from edge_agent.sources.video import VideoReader

BUFFERS = 48
WORKING = 16
"""Buffers beyond those that the outbox's queue may hold: the ring's, the loop's and the mining's."""
TRIGGERED_AHEAD = 16
"""Frames of triggered parts that may wait for the loop; none is replaced by a newer one."""
PART_IDLE_S = 0.5
"""A part whose end nobody tells is decided when no frame came for so long."""
GRACE_S = 2.0
"""For a frame's way to the loop and its inspection, beyond what the source itself waits for it."""


@dataclass(frozen=True, slots=True)
class SourceFolders:
    """Say where unreadable files go and how many frames may be in use at once."""

    quarantine: Path | None
    buffers: int = BUFFERS


def buffers_for(camera: CameraConfig, queue_frames: int, remembered: int = 0) -> int:
    """Return how many frames may be in use: those the outbox's queue and the mining may hold, and some more.

    A smaller number that was configured is not heeded: with a hung disk the camera would have no buffer left,
    and nothing would be inspected.
    """
    return max(camera.buffers, queue_frames + remembered + WORKING)


def part_idle_s(camera: CameraConfig) -> float:
    """Return how long the loop waits for the rest of a part, in seconds: longer than the source does."""
    if camera.trigger is not None:
        return camera.trigger.timeout_s + GRACE_S
    if parse_source(camera.source).is_live and camera.frames_per_part > 1:
        return camera.stall_s + GRACE_S
    return PART_IDLE_S


def capture_options(camera: CameraConfig) -> CaptureOptions:
    """Say how the capture thread passes frames on."""
    if camera.trigger is not None:
        return CaptureOptions(mode="parts", read_ahead=TRIGGERED_AHEAD, retry_limit_s=camera.retry_max_s)
    return CaptureOptions(
        mode="live" if takes_newest(camera) else "every",
        fps_limit=camera.fps_limit,
        retry_limit_s=camera.retry_max_s,
    )


def takes_newest(camera: CameraConfig) -> bool:
    """Tell whether a newer frame replaces one that was not inspected."""
    if camera.mode == "auto":
        return parse_source(camera.source).is_live
    return camera.mode == "live"


def is_never_silent(camera: CameraConfig) -> bool:
    """Tell whether a source that gives no frame for long is at fault: a camera without a trigger."""
    return parse_source(camera.source).is_live and camera.trigger is None


def choose_reader(
    camera: CameraConfig, folders: SourceFolders, seen: Iterable[str], counters: Counters, events: Events
) -> FrameReader:
    """Return a reader of the configured source.

    Raises:
        ConfigError: the source can never be opened so: a ready pipeline that does not exist, a package or
            program that is missing, a file of credentials nobody can read.
    """
    name = parse_source(camera.source)
    reader: FrameReader
    if name.kind == "folder":
        options = FolderOptions(
            Path(name.target), folders.quarantine, camera.extensions, follow=camera.follow
        )
        reader = FolderReader(options, seen, counters, events)
    elif name.kind == "video":
        reader = VideoReader(Path(name.target), seen, folders.buffers)
    else:
        reader = live_reader(camera, folders.buffers, counters, events)
    # A faulty frame among several must not be missing from its part, which would be accepted without it.
    withhold = is_never_silent(camera) and camera.frames_per_part == 1
    checked = CheckedReader(reader, fault_limits(camera), counters, events, withhold=withhold)
    if camera.trigger is None:
        return checked
    trigger = choose_trigger(camera, counters, events)
    settings = TriggerOptions(
        camera.name,
        camera.trigger.delay_ms / 1000,
        camera.trigger.timeout_s,
        camera.frames_per_part,
        camera.retry_max_s,
    )
    return TriggeredReader(checked, trigger, settings, counters, events)


def live_reader(camera: CameraConfig, buffers: int, counters: Counters, events: Events) -> LiveReader:
    """Return the reader of a source that lives in a child process.

    Raises:
        ConfigError: see `choose_reader`.
    """
    name = parse_source(camera.source)
    credentials = read_credentials(camera.credentials_file)
    job = job_of(camera, name, buffers, credentials)
    _check(job, camera)
    options = LiveOptions(
        camera.name,
        # A trigger chooses among all frames: the first behind its pulse, not the newest.
        newest=takes_newest(camera) and camera.trigger is None,
        follow=camera.follow,
        # A trigger names and groups the frames itself.
        frames_per_part=1 if camera.trigger is not None else camera.frames_per_part,
        secrets=(credentials.password, *secrets_in(camera.source)),
    )
    return LiveReader(job, options, counters, events)


def job_of(camera: CameraConfig, name: SourceName, buffers: int, credentials: Credentials) -> SourceJob:
    """Say what the child opens."""
    target = name.target
    if name.kind == "url" and credentials.user:
        target = with_credentials(target, credentials.user, credentials.password)
    return SourceJob(
        kind=name.kind,
        target=target,
        slots=buffers,
        waits=not takes_newest(camera),
        width=camera.width,
        height=camera.height,
        fps=camera.fps,
        pixel_format=camera.pixel_format,
        rtsp_transport=camera.rtsp_transport,
        decode_threads=camera.decode_threads,
        open_s=camera.open_s,
        stall_s=camera.stall_s,
    )


def fault_limits(camera: CameraConfig) -> FaultLimits:
    """Say what is a fault; files may well hold the same picture twice, and come in any size."""
    is_live = parse_source(camera.source).is_live
    faults = camera.faults
    return FaultLimits(
        black=faults.black,
        black_mean=faults.black_mean,
        black_max=faults.black_max,
        frozen_s=faults.frozen_s if is_live else 0.0,
        frozen_frames=faults.frozen_frames,
        width=camera.width,
        height=camera.height,
    )


def choose_trigger(camera: CameraConfig, counters: Counters, events: Events) -> Trigger:
    """Return the configured trigger; its packages are loaded only now.

    Raises:
        ConfigError: a package is missing, or a password file cannot be read.
    """
    config = camera.trigger
    assert config is not None
    if config.kind == "modbus":
        from edge_agent.sources.trigger_modbus import ModbusTrigger

        return ModbusTrigger(config, counters, events)
    if config.kind == "mqtt":
        from edge_agent.sources.trigger_mqtt import MqttTrigger

        return MqttTrigger(config, counters, events)
    from edge_agent.sources.trigger_file import FileTrigger

    assert config.path is not None
    return FileTrigger(config.path, counters, events)


def _check(job: SourceJob, camera: CameraConfig) -> None:
    """Find out at the start what would fail in the child for ever."""
    if job.slots > MOST_SLOTS:
        raise ConfigError(
            expected=f"at most {MOST_SLOTS - WORKING} frames held by outbox and mining",
            got=str(job.slots - WORKING),
            where="outbox.queue_frames + mining.remember_frames",
            now="Lower it: a hung disk would leave the camera no buffer.",
        )
    if job.kind in ("gst", "jetson"):
        launch_arguments(job, 0)
        if shutil.which(PROGRAM) is None:
            raise _missing(f"the program {PROGRAM}", f"Install {PACKAGES}.")
    is_simulated = job.target.partition("#")[0] == SIMULATOR
    if job.kind == "genicam" and not is_simulated and importlib.util.find_spec("harvesters") is None:
        raise _missing("the package harvesters", "Install whetstone-edge[genicam] and a GenTL producer.")
    if camera.credentials_file is not None and job.kind != "url":
        raise ConfigError(
            expected="camera.credentials_file with an rtsp:// or http:// source only",
            got=job.kind,
            where="camera.credentials_file",
            now="A pipeline's arguments can be seen by every user of the box; read the stream by its URL.",
        )


def _missing(what: str, now: str) -> ConfigError:
    return ConfigError(expected=what, got="none", where="camera.source", now=now)
