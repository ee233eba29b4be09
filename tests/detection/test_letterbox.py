"""A frame of any size fits into the canvas, and boxes find their way back."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.errors import ShapeError
from detection.letterbox import Letterbox, Placement

SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, st.sampled_from([(320, 320), (640, 384), (64, 96)]))
@settings(max_examples=200, deadline=None)
def test_boxes_return_to_where_they_were(width: int, height: int, canvas: tuple[int, int]) -> None:
    """A box moved to the canvas and back is the same box, for every frame and canvas size."""
    placement = Placement.fit((width, height), canvas)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 3, width / 2, height]], np.float32)
    moved = placement.to_frame(placement.to_canvas(boxes))
    np.testing.assert_allclose(moved, boxes, atol=max(width, height) * 1e-5)


@given(SIDES, SIDES)
@settings(max_examples=200, deadline=None)
def test_the_frame_lies_inside_the_canvas(width: int, height: int) -> None:
    """The placed frame touches two opposite borders and overhangs none."""
    placement = Placement.fit((width, height), (320, 192))
    inner = placement.inner_size
    assert placement.pad_x >= 0 <= placement.pad_y
    assert placement.pad_x + inner[0] <= 320
    assert placement.pad_y + inner[1] <= 192
    assert inner[0] == 320 or inner[1] == 192


@pytest.mark.parametrize(
    ("frame", "canvas", "expected"),
    [
        ((1920, 1080), (640, 640), (640, 360, 0, 140)),
        ((640, 640), (640, 640), (640, 640, 0, 0)),
        ((100, 50), (64, 64), (64, 32, 0, 16)),
        ((51, 100), (64, 64), (33, 64, 15, 0)),  # odd padding: the half pixel goes right
    ],
)
def test_placement_is_what_training_used(
    frame: tuple[int, int], canvas: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    """Size and padding follow ultralytics' letterbox, rounding included."""
    placement = Placement.fit(frame, canvas)
    assert (*placement.inner_size, placement.pad_x, placement.pad_y) == expected


def test_the_canvas_holds_the_resized_frame() -> None:
    """The middle of the canvas is OpenCV's bilinear resize, the rest is grey."""
    frame = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)
    box = Letterbox(64, 64)
    placement = box.fill(frame)
    top, (width, height) = placement.pad_y, placement.inner_size
    expected = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(box.canvas[0, top : top + height], expected)
    assert (box.canvas[0, :top] == 114).all()
    assert (box.canvas[0, top + height :] == 114).all()


def test_another_frame_size_leaves_no_trace() -> None:
    """After a change of frame size the border is grey again, as on a fresh canvas."""
    white = np.full((64, 32, 3), 255, np.uint8)
    box, fresh = Letterbox(64, 64), Letterbox(64, 64)
    box.fill(np.full((32, 64, 3), 255, np.uint8))
    assert box.fill(white) == fresh.fill(white)
    np.testing.assert_array_equal(box.canvas, fresh.canvas)


def test_boxes_are_cut_at_the_frame() -> None:
    """Boxes that reach onto the grey border end at the frame's edge."""
    placement = Placement.fit((100, 50), (64, 64))
    moved = placement.to_frame(np.array([[-5, -5, 70, 70]], np.float32))
    assert moved.tolist() == [[0.0, 0.0, 100.0, 50.0]]
    assert placement.to_frame(np.empty((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(frame: np.ndarray) -> None:
    """Grey, four-channel, float and empty frames are refused with their shape."""
    with pytest.raises(ShapeError, match=r"\(height, width, 3\)"):
        Letterbox(64, 64).fill(frame)


@pytest.mark.parametrize("size", [(1080, 1920), (640, 640), (480, 320)])
def test_filling_allocates_nothing_large(size: tuple[int, int]) -> None:
    """In steady state a frame is drawn without allocating."""
    frame = np.zeros((*size, 3), np.uint8)
    box = Letterbox(640, 640)
    box.fill(frame)
    memory = box.canvas.ctypes.data
    tracemalloc.start()
    box.fill(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * 1024
    assert box.canvas.ctypes.data == memory


def test_cropped_frames_are_drawn() -> None:
    """A frame that is a view into a larger one needs no copy first."""
    whole = np.random.default_rng(2).integers(0, 255, (200, 200, 3), np.uint8)
    crop = whole[10:110, 20:180]
    box, other = Letterbox(64, 64), Letterbox(64, 64)
    box.fill(crop)
    other.fill(np.ascontiguousarray(crop))
    np.testing.assert_array_equal(box.canvas, other.canvas)
