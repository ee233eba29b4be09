"""Bring examples from the outbox into the bucket by presigned grants."""

from __future__ import annotations

from edge_agent.upload.base import Putter
from edge_agent.upload.memory import MemoryPutter
from edge_agent.upload.uploader import Uploader

__all__ = ["MemoryPutter", "Putter", "Uploader"]
