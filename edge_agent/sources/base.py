"""Say what a frame is and what every source of frames can do.

A `FrameReader` may block and runs on the capture thread alone; the loop only sees `Capture`.

    >>> part_of_name("board-7__2")
    ('board-7', 2)
    >>> part_of_name("board 7")
    ('board-7', 0)
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from numpy.typing import NDArray

Image = NDArray[Any]
"""uint8, (height, width, 3), BGR."""
_NOT_IN_PART_ID = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Frame:
    """Hold one picture of a part.

    `image` may be a view into a pooled buffer, which is used again once nobody refers to it: hold it only
    as long as needed, never write to it.
    """

    image: Image
    captured_at: datetime
    part_id: str
    frame_in_part: int = 0
    token: str = ""
    """Names the frame to its source, so that a restart goes on behind it."""
    jpeg: bytes | None = None
    """The bytes of the JPEG file it came from, which are kept unchanged."""
    captured_mono: float = field(default_factory=time.monotonic)
    """`time.monotonic()` at the capture, or at the trigger's pulse; the same clock in every process."""
    last_in_part: bool = False
    """The source knows that no frame of this part follows."""
    flag: str = ""
    """Why an operator or PLC flagged this part."""
    fault: str = ""
    """Why this picture shows nothing one may judge by (`black`, `frozen`, `size`, `trigger-missed`)."""


class FrameReader(Protocol):
    """Be a place frames come from; one thread calls it."""

    def read(self, wait_s: float) -> Frame | None:
        """Return the next frame, or None when none came within about `wait_s` seconds.

        Raises:
            SourceError: the place cannot be used now; asked again later, it may come back.
        """

    def is_ended(self) -> bool:
        """Tell whether no frame will ever come again."""

    def close(self) -> None:
        """Let go of the device or file."""


def part_of_name(stem: str) -> tuple[str, int]:
    """Read `<part_id>__<frame>`; without `__<number>` the whole stem is the part and the frame is 0."""
    head, separator, tail = stem.rpartition("__")
    if separator and head and tail.isascii() and tail.isdigit() and len(tail) <= 9:
        return clean_part_id(head), int(tail)
    return clean_part_id(stem), 0


def clean_part_id(text: str) -> str:
    """Turn any text into a valid part id, leaving valid ones as they are."""
    cleaned = _NOT_IN_PART_ID.sub("-", text).lstrip("._-")[:128]
    return cleaned or "part"
