"""Choose the reader that the configured source names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_agent.config import CameraConfig
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.sources.base import FrameReader
from edge_agent.sources.folder import FolderOptions, FolderReader
from edge_agent.sources.opencv import OpenCvReader
from edge_agent.sources.video import VideoReader


def choose_reader(
    camera: CameraConfig, quarantine: Path, seen: Iterable[str], counters: Counters, events: Events
) -> FrameReader:
    """Return a reader of `folder:/path`, `video:/path`, or anything else OpenCV may open."""
    kind, _, path = camera.source.partition(":")
    if kind == "folder":
        options = FolderOptions(Path(path), quarantine, camera.extensions, follow=camera.follow)
        return FolderReader(options, seen, counters, events)
    if kind == "video":
        return VideoReader(Path(path), seen)
    return OpenCvReader(camera.source, camera.name, follow=camera.follow)
