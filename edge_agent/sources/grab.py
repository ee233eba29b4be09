"""Say what the child process that holds a camera is told, and what every driver in it can do.

Only the child uses a `Grabber`: drivers hang, and a process can be killed where a thread cannot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

from edge_agent.sources.base import Image


@dataclass(frozen=True, slots=True)
class SourceJob:
    """Hold all that a child needs; it may hold a password, so it travels by stdin alone."""

    kind: str
    target: str
    slots: int
    """Buffers of the ring that parent and child share."""
    waits: bool = False
    """Wait for a buffer rather than drop a frame."""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    pixel_format: str = ""
    rtsp_transport: str = "tcp"
    decode_threads: int = 1
    open_s: float = 15.0
    stall_s: float = 5.0
    parent: int = 0
    """Process number of the parent, with which the child dies."""

    def to_json(self) -> bytes:
        """Write it for the child's stdin."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> SourceJob:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


class Grabber(Protocol):
    """Be a driver of a live source; one thread calls it, and every call may hang."""

    def open(self) -> tuple[str, ...]:
        """Open the source; return what it does otherwise than asked, in words.

        Raises:
            SourceError: it cannot be opened now.
            ConfigError: it can never be opened so.
        """

    def grab(self) -> bool:
        """Wait for the next frame without decoding it; False at the end of the stream."""

    def retrieve(self, into: Image | None) -> Image | None:
        """Decode the frame that was grabbed to BGR, into the array if it fits; None when it cannot be."""

    def skip(self) -> None:
        """Pass over the frame that was grabbed."""

    def close(self) -> None:
        """Let go of the device."""


def mismatch(name: str, asked: object, got: object) -> str:
    """Say that a source does otherwise than asked."""
    return f"{name}: asked {asked}, got {got}"
