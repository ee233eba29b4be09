"""Fit a frame of any size into the one size a model takes, without allocating per frame.

First station after the camera. The frame is resized straight into the middle of a canvas that was
filled with grey once; scaling to floats and the colour order are part of the model's own graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detection.detections import Floats, Image
from detection.errors import ShapeError


@dataclass(frozen=True, slots=True)
class Placement:
    """Say where a frame lies on the canvas: model = frame * scale + pad, all in pixels."""

    scale: float
    pad_x: int
    pad_y: int
    frame_width: int
    frame_height: int

    @classmethod
    def fit(cls, frame_size: tuple[int, int], canvas_size: tuple[int, int]) -> Placement:
        """Centre a frame on a canvas, as large as it goes; sizes are (width, height)."""
        (frame_width, frame_height), (width, height) = frame_size, canvas_size
        scale = min(width / frame_width, height / frame_height)
        placed = cls(scale, 0, 0, frame_width, frame_height)
        inner_width, inner_height = placed.inner_size
        # Half a pixel of odd padding goes to the right and below, as ultralytics trains it.
        pad_x = round((width - inner_width) / 2 - 0.1)
        pad_y = round((height - inner_height) / 2 - 0.1)
        return cls(scale, pad_x, pad_y, frame_width, frame_height)

    @property
    def inner_size(self) -> tuple[int, int]:
        """Return width and height of the frame on the canvas."""
        width = max(1, round(self.frame_width * self.scale))
        return width, max(1, round(self.frame_height * self.scale))

    def to_frame(self, xyxy: Floats) -> Floats:
        """Return boxes given on the canvas as boxes on the frame, cut off at its border."""
        boxes: Floats = (xyxy - self._pads()) / np.float32(self.scale)
        np.clip(boxes[:, 0::2], 0.0, self.frame_width, out=boxes[:, 0::2])
        np.clip(boxes[:, 1::2], 0.0, self.frame_height, out=boxes[:, 1::2])
        return boxes

    def to_canvas(self, xyxy: Floats) -> Floats:
        """Return boxes given on the frame as boxes on the canvas."""
        boxes: Floats = xyxy * np.float32(self.scale) + self._pads()
        return boxes

    def _pads(self) -> Floats:
        return np.array((self.pad_x, self.pad_y, self.pad_x, self.pad_y), np.float32)


class Letterbox:
    """Own one canvas and fill it with frame after frame; for one thread at a time.

    Args:
        width: of the canvas, in pixels.
        height: of the canvas, in pixels.
        pad_value: grey value of the border.
    """

    def __init__(self, width: int, height: int, pad_value: int = 114) -> None:
        self.canvas: Image = np.full((1, height, width, 3), pad_value, np.uint8)
        """(1, height, width, 3) BGR: the very memory the model reads."""
        self._pad_value = pad_value
        self._placement: Placement | None = None
        self._inner: Image = self.canvas[0]

    def fill(self, frame_bgr: Image) -> Placement:
        """Draw a frame onto the canvas and say where it went.

        Raises:
            ShapeError: the frame is not uint8 of shape (height, width, 3), or is empty.
        """
        width, height = _frame_size(frame_bgr)
        placement = self._placement
        if placement is None or (placement.frame_width, placement.frame_height) != (width, height):
            placement = self._place(width, height)
        if self._inner.shape == frame_bgr.shape:
            np.copyto(self._inner, frame_bgr)
        else:
            inner_size = (self._inner.shape[1], self._inner.shape[0])
            cv2.resize(frame_bgr, inner_size, dst=self._inner, interpolation=cv2.INTER_LINEAR)
        return placement

    def _place(self, frame_width: int, frame_height: int) -> Placement:
        """Compute where frames of a new size go, and clear what the last size left on the border."""
        canvas_height, canvas_width = self.canvas.shape[1:3]
        placement = Placement.fit((frame_width, frame_height), (canvas_width, canvas_height))
        width, height = placement.inner_size
        left, top = placement.pad_x, placement.pad_y
        self.canvas.fill(self._pad_value)
        self._inner = self.canvas[0, top : top + height, left : left + width]
        self._placement = placement
        return placement


def _frame_size(frame: Image) -> tuple[int, int]:
    """Return width and height of a frame that can be drawn."""
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        got = f"{frame.dtype} {frame.shape}"
        raise ShapeError(expected="uint8 (height, width, 3)", got=got, where="frame")
    return frame.shape[1], frame.shape[0]
