"""Bring frames in: a folder of images, a video file, or anything OpenCV opens."""

from __future__ import annotations

from edge_agent.sources.base import Frame, FrameReader, Image
from edge_agent.sources.capture import Capture, CaptureHooks, CaptureOptions
from edge_agent.sources.memory import MemoryReader

__all__ = ["Capture", "CaptureHooks", "CaptureOptions", "Frame", "FrameReader", "Image", "MemoryReader"]
