"""Draw what changed: parts the old model missed something on and the new one found it, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection import Detections
from detection.metrics.matching import GroundTruth, match_image

Image = NDArray[np.uint8]
_COLOURS = ((60, 60, 235), (235, 150, 40), (40, 200, 235), (220, 80, 220), (90, 220, 90), (200, 200, 60))
_WHITE = (255, 255, 255)
_CAPTION = 26
_SIDE = 360


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold one picture with its truth and what two models say of it, at their operating thresholds."""

    name: str
    image: Image
    truth: GroundTruth
    before: Detections
    after: Detections

    @property
    def gained(self) -> int:
        """Return how many more true boxes the second model finds."""
        return found_count(self.after, self.truth) - found_count(self.before, self.truth)


def found_count(found: Detections, truth: GroundTruth) -> int:
    """Count the true boxes that are found, at an overlap of a half."""
    return int(match_image(found, truth, (0.5,)).right[0].sum())


def choose_most_changed(compared: Sequence[Compared], count: int) -> list[Compared]:
    """Return the pictures on which most was missed and is found now, the best first."""
    gained = [one for one in compared if one.gained > 0]
    return sorted(gained, key=lambda one: (-one.gained, one.name))[:count]


def write_side_by_side(path: Path, rows: Sequence[Compared], class_names: Sequence[str]) -> Path:
    """Write one picture: truth, before and after in three columns, a row for each part."""
    lines = [
        np.hstack([
            _panel(one.image, _as_detections(one.truth), class_names, f"truth: {one.name}"),
            _panel(one.image, one.before, class_names, "before"),
            _panel(one.image, one.after, class_names, "after"),
        ])
        for one in rows
    ]
    sheet = np.vstack(lines) if lines else _empty_sheet()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), sheet):
        raise OSError(f"{path}: expected a picture to be written, got an encoder's refusal")
    return path


def _as_detections(truth: GroundTruth) -> Detections:
    return Detections(truth.xyxy, np.ones(len(truth), np.float32), truth.class_id)


def _panel(image: Image, found: Detections, class_names: Sequence[str], caption: str) -> Image:
    scale = _SIDE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    panel = np.full((_SIDE + _CAPTION, _SIDE, 3), 24, np.uint8)
    panel[_CAPTION : _CAPTION + size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.putText(panel, caption, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
    for box, confidence, class_id in zip(found.xyxy, found.confidence, found.class_id, strict=True):
        _draw_box(panel, box * scale, f"{class_names[class_id]} {confidence:.2f}", int(class_id))
    return panel


def _draw_box(panel: Image, box: NDArray[np.float32], text: str, class_id: int) -> None:
    colour = _COLOURS[class_id % len(_COLOURS)]
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(panel, (x1, y1 + _CAPTION), (x2, y2 + _CAPTION), colour, 2, cv2.LINE_AA)
    width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
    left = max(0, min(x1, _SIDE - width - 2))
    top = max(_CAPTION + 12, y1 + _CAPTION - 4)
    cv2.rectangle(panel, (left, top - 11), (left + width + 2, top + 3), colour, -1)
    cv2.putText(panel, text, (left + 1, top), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def _empty_sheet() -> Image:
    sheet = np.full((120, 3 * _SIDE, 3), 24, np.uint8)
    cv2.putText(sheet, "no part was missed before and is found now", (20, 64), cv2.FONT_HERSHEY_SIMPLEX, 0.6,
                _WHITE, 1, cv2.LINE_AA)
    return sheet
