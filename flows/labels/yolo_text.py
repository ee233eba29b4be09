"""Read YOLO label text: one box a line, `class cx cy width height` as shares of the image. No I/O.

    >>> read_yolo("0 0.5 0.5 0.2 0.1", FrameSize(640, 480), class_count=1, where="a.txt")[0].cx
    0.5

An empty text is a statement too: a person looked and there is nothing here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet_contracts.samples import BoxLabel
from flows.errors import LabelsRefused

TOLERANCE_PX = 1.0
"""How far a box may reach over the image's edge (rounding in labelling tools); it is cut back to the edge."""
MAX_BOXES = 2000
_FIX = "Correct the file; it is read again when it changes."


@dataclass(frozen=True, slots=True)
class FrameSize:
    """Hold an image's size in pixels."""

    width: int
    height: int


def read_yolo(text: str, size: FrameSize, *, class_count: int, where: str) -> tuple[BoxLabel, ...]:
    """Read the boxes of one image.

    Args:
        text: the file's content.
        size: of the image, to judge what reaches outside it.
        class_count: classes in the list the file was written under.
        where: the file, for the error message.

    Raises:
        LabelsRefused: a line that is not five numbers, an unknown class, or a box without area or outside
            the image; the message names the line.
    """
    boxes: list[BoxLabel] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            boxes.append(_read_line(line, size, class_count, f"{where} line {number}"))
        if len(boxes) > MAX_BOXES:
            raise LabelsRefused(expected=f"at most {MAX_BOXES} boxes", got="more", where=where, now=_FIX)
    return tuple(boxes)


def write_yolo(boxes: tuple[BoxLabel, ...]) -> str:
    """Write boxes as YOLO text."""
    lines = [f"{box.class_id} {box.cx:.6f} {box.cy:.6f} {box.width:.6f} {box.height:.6f}" for box in boxes]
    return "\n".join([*lines, ""]) if lines else ""


def _read_line(line: str, size: FrameSize, class_count: int, where: str) -> BoxLabel:
    fields = line.split()
    if len(fields) != 5:
        raise _refused("class cx cy width height", f"{len(fields)} fields", where)
    try:
        class_id, values = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError as error:
        raise _refused("a whole number and four numbers", line[:80], where) from error
    if not all(math.isfinite(value) for value in values):
        raise _refused("finite numbers", line[:80], where)
    if not 0 <= class_id < class_count:
        raise _refused(f"a class from 0 to {class_count - 1}", str(class_id), where)
    cx, cy, width, height = values
    if width <= 0 or height <= 0:
        raise _refused("a box with an area", f"{width} x {height}", where)
    left, right = _inside(cx, width, size.width, where)
    top, bottom = _inside(cy, height, size.height, where)
    return BoxLabel(
        class_id=class_id,
        cx=(left + right) / 2,
        cy=(top + bottom) / 2,
        width=right - left,
        height=bottom - top,
    )


def _inside(centre: float, extent: float, pixels: int, where: str) -> tuple[float, float]:
    low, high = centre - extent / 2, centre + extent / 2
    slack = TOLERANCE_PX / pixels
    if low < -slack - 1e-9 or high > 1 + slack + 1e-9:
        raise _refused(
            f"a box inside the image (to {TOLERANCE_PX} px)",
            f"{low * pixels:.1f} to {high * pixels:.1f} of {pixels} px",
            where,
        )
    low, high = max(0.0, low), min(1.0, high)
    # Also within the image: an extent that is lost in rounding leaves no area.
    if not low < high:
        raise _refused("a box with an area inside the image", f"none of {pixels} px", where)
    return low, high


def _refused(expected: str, got: str, where: str) -> LabelsRefused:
    return LabelsRefused(expected=expected, got=got, where=where, now=_FIX)
