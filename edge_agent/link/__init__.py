"""Carry messages between box and cloud; messages are hints, losing one delays and loses nothing."""

from __future__ import annotations

from edge_agent.link.base import Link, LinkHandlers, LinkOptions, Will
from edge_agent.link.memory import MemoryBroker, MemoryLink

__all__ = ["Link", "LinkHandlers", "LinkOptions", "MemoryBroker", "MemoryLink", "Will"]
