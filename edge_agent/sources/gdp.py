r"""Read GStreamer's data protocol, in which frames cross a pipe from `gdppay`. Pure.

Every packet says how long it is, and a change of the format comes as a packet of its own, so that a camera
that changes its size is no riddle; YUV4MPEG, as GStreamer writes it, does not tell.

    >>> parse_caps(b"video/x-raw, format=(string)I420, width=(int)64, height=(int)48\x00")
    Plane(width=64, height=48)
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.sources.base import Image

HEADER_BYTES = 62
BUFFER, CAPS = 1, 2
MOST_BYTES = 512 * 1024 * 1024
_HEAD = struct.Struct(">BBxxHI")
_FIELD = re.compile(r"\b(format|width|height)=(?:\([a-z]+\))?\"?([A-Za-z0-9_]+)")


@dataclass(frozen=True, slots=True)
class Plane:
    """Hold the size of 4:2:0 frames, whose rows GStreamer pads to four bytes."""

    width: int
    height: int

    @property
    def frame_bytes(self) -> int:
        """Return the length of a frame, padding included."""
        height = _up(self.height, 2)
        return _up(self.width, 4) * height + _up(_up(self.width, 2) // 2, 4) * height

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the picture: 4:2:0 has even sides, so that an odd last row or column is cut."""
        return self.height // 2 * 2, self.width // 2 * 2, 3

    def packed(self, data: Image) -> Image:
        """Return the planes the way OpenCV wants them, without padding; a view where there is none."""
        height, width, _ = self.shape
        if self.frame_bytes == width * height * 3 // 2:
            return data.reshape(height * 3 // 2, width)
        rows, row, half = _up(self.height, 2), _up(self.width, 4), _up(_up(self.width, 2) // 2, 4)
        light = data[: row * rows].reshape(rows, row)[:height, :width]
        colour = data[row * rows :].reshape(2, rows // 2, half)[:, : height // 2, : width // 2]
        return np.concatenate([light.reshape(-1), colour.reshape(-1)]).reshape(height * 3 // 2, width)


def parse_head(head: bytes | bytearray) -> tuple[int, int]:
    """Return a packet's kind and the length of what follows.

    Raises:
        SourceError: these bytes are no packet.
    """
    major, minor, kind, length = _HEAD.unpack_from(head)
    if (major, minor) not in ((1, 0), (0, 2)) or length > MOST_BYTES:
        raise SourceError(expected="a packet of GStreamer's", got=repr(head[:16]), where="the pipeline")
    return kind, length


def parse_caps(text: bytes | bytearray) -> Plane:
    """Return the frames' size.

    Raises:
        SourceError: other frames than 4:2:0, or of no size.
    """
    words = text.rstrip(b"\0").decode("utf-8", "replace")
    fields = dict(_FIELD.findall(words))
    width, height = fields.get("width", ""), fields.get("height", "")
    if fields.get("format") != "I420" or not (width.isdigit() and height.isdigit()):
        raise SourceError(expected="frames of format I420", got=words[:120], where="the pipeline")
    plane = Plane(int(width), int(height))
    if min(plane.shape) < 2 or plane.frame_bytes > MOST_BYTES:
        raise SourceError(expected="a size", got=f"{width}x{height}", where="the pipeline")
    return plane


def _up(number: int, step: int) -> int:
    return (number + step - 1) // step * step
