"""Bring frames in: folders and video files here, cameras and streams in a child process that can be killed.

folder, video ----------------------------> checks ----------------> capture thread -> loop
v4l2, rtsp, gst, jetson, genicam: child --> checks --> trigger? ----> capture thread -> loop
"""

from __future__ import annotations

from edge_agent.sources.base import Frame, FrameReader, Image
from edge_agent.sources.capture import Capture, CaptureHooks, CaptureOptions
from edge_agent.sources.memory import MemoryReader
from edge_agent.sources.pool import FramePool

__all__ = [
    "Capture",
    "CaptureHooks",
    "CaptureOptions",
    "Frame",
    "FramePool",
    "FrameReader",
    "Image",
    "MemoryReader",
]
