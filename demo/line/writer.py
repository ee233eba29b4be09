"""Lay pictures and truth into folders, so that a camera watching them never sees half a file.

The truth of a part is written before its picture: whoever finds a picture finds the truth beside it.
A line that was killed goes on after the last part whose truth it wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from demo.line.parts import FRAME
from demo.line.render import Picture, TruthBox
from demo.line.script import ALL_CLASSES, MIXES, draw_part

JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class LineOrder:
    """Say what a running line should do; read again before every part. `parts` limits all parts ever made."""

    mix: str = "known"
    parts_per_second: float = 2.0
    parts: int = 1_000_000
    stop: bool = False


def write_order(path: Path, order: LineOrder) -> None:
    """Tell a line what to do from its next part on."""
    _replace(path, json.dumps(asdict(order)).encode())


def read_order(path: Path) -> LineOrder:
    """Read what the line should do; a missing file is the default order.

    Raises:
        ValueError: the file is not an order.
    """
    if not path.exists():
        return LineOrder()
    order = LineOrder(**json.loads(path.read_text()))
    if order.mix not in MIXES:
        raise ValueError(f"{path}: expected a mix of {sorted(MIXES)}, got {order.mix!r}")
    return order


def yolo_text(truth: Sequence[TruthBox], classes: Sequence[str] = ALL_CLASSES) -> str:
    """Write boxes as YOLO text under a class list; kinds the list does not have are left out."""
    lines = [
        f"{classes.index(box.kind)} {(box.x1 + box.x2) / 2 / FRAME:.6f} {(box.y1 + box.y2) / 2 / FRAME:.6f} "
        f"{(box.x2 - box.x1) / FRAME:.6f} {(box.y2 - box.y1) / FRAME:.6f}\n"
        for box in truth
        if box.kind in classes
    ]
    return "".join(lines)


def encode_jpeg(picture: Picture) -> bytes:
    """Encode a frame as the camera does."""
    done, content = cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"expected a picture that encodes as JPEG, got shape {picture.image.shape}")
    return content.tobytes()


class LineWriter:
    """Make parts one after the other into a camera folder and a truth folder."""

    def __init__(self, camera: Path, truth: Path, *, name: str, seed: int) -> None:
        self._camera = camera
        self._truth = truth
        self._name = name
        self._seed = seed
        camera.mkdir(parents=True, exist_ok=True)
        truth.mkdir(parents=True, exist_ok=True)
        self.number = self._last_number() + 1
        """The next part."""

    def _last_number(self) -> int:
        made = [int(path.stem.rsplit("-", 1)[1]) for path in self._truth.glob(f"{self._name}-*.txt")]
        return max(made, default=-1)

    def make(self, mix: str) -> str:
        """Make the next part and return its id."""
        part_id = f"{self._name}-{self.number:06d}"
        picture = draw_part(MIXES[mix], self._seed, self.number)
        _replace(self._truth / f"{part_id}.txt", yolo_text(picture.truth).encode())
        _replace(self._camera / f"{part_id}__0.jpg", encode_jpeg(picture))
        self.number += 1
        return part_id


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.write_bytes(content)
    draft.replace(path)
