"""Let new images pass the boxes' cameras, as the line would: in a fixed order, one by one, by rename."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.images.layout import ImageRow


@dataclass(frozen=True, slots=True)
class CameraFolder:
    """Name a box and the folder its camera reads."""

    device: str
    folder: Path

    @property
    def passed_file(self) -> Path:
        """Return the list of what passed, one stem a line."""
        return self.folder.parent / "passed.txt"


class Feeder:
    """Put images before the cameras in turn; one that passed already does not pass again."""

    def __init__(self, rows: Sequence[ImageRow], cameras: Sequence[CameraFolder], seed: int) -> None:
        """Take the images of the pool, in any order, and the boxes' cameras."""
        shuffled = sorted(rows, key=lambda row: row.stem)
        random.Random(seed).shuffle(shuffled)  # noqa: S311 - an order, not a secret
        self._plan = [(row, cameras[number % len(cameras)]) for number, row in enumerate(shuffled)]
        self._passed = {camera.device: _read_list(camera) for camera in cameras}

    def feed(self, count: int) -> int:
        """Let up to `count` more images pass; return how many are still to come."""
        waiting = [(row, camera) for row, camera in self._plan if row.stem not in self._passed[camera.device]]
        for row, camera in waiting[:count]:
            _place(row.image, camera.folder / f"{row.stem}__0{row.image.suffix}")
            # Noted after it passed: a picture the box set aside as unreadable must not come again.
            with camera.passed_file.open("a") as file:
                file.write(f"{row.stem}\n")
            self._passed[camera.device].add(row.stem)
        return max(0, len(waiting) - count)

    def passed(self, device: str) -> int:
        """Count the images that passed a box's camera."""
        return len(self._passed[device])


def _read_list(camera: CameraFolder) -> set[str]:
    return set(camera.passed_file.read_text().split()) if camera.passed_file.is_file() else set()


def _place(image: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.copyfile(image, draft)
    draft.replace(target)
