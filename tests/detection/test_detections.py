"""Detections are parallel, typed columns."""

from __future__ import annotations

import numpy as np
import pytest

from detection.detections import Detections
from detection.errors import ShapeError
from tests.detection.builders import detections

SOME = detections((1, 2, 3, 5, 0.5, 1), (0, 0, 4, 4, 0.25, 0), (9, 9, 9, 9, 0.75, 2))


@pytest.mark.parametrize(
    ("xyxy", "confidence", "class_id"),
    [
        ((2, 4), (3,), (2,)),  # confidence too long
        ((2, 4), (2,), (1,)),  # class ids too short
        ((2, 5), (2,), (2,)),  # five numbers a box
        ((4,), (1,), (1,)),  # one box without its axis
        ((2, 4), (2, 1), (2,)),  # a column of columns
        ((0,), (0,), (0,)),  # nothing, but not (0, 4)
    ],
)
def test_unparallel_columns_are_refused(
    xyxy: tuple[int, ...], confidence: tuple[int, ...], class_id: tuple[int, ...]
) -> None:
    """Columns that do not belong together are refused with all three shapes in the message."""
    with pytest.raises(ShapeError) as caught:
        Detections(np.zeros(xyxy), np.zeros(confidence), np.zeros(class_id))
    assert all(str(shape) in str(caught.value) for shape in (xyxy, confidence, class_id))
    assert caught.value.diagnostics()


def test_columns_get_their_types() -> None:
    """Columns of other types are converted; right ones are kept without a copy."""
    assert (SOME.xyxy.dtype, SOME.confidence.dtype, SOME.class_id.dtype) == (
        np.float32,
        np.float32,
        np.int64,
    )
    assert Detections(SOME.xyxy, SOME.confidence, SOME.class_id).xyxy is SOME.xyxy


def test_empty_is_a_value() -> None:
    """A frame without findings has length zero and survives every operation."""
    empty = Detections.empty()
    assert len(empty) == 0
    assert empty.to_boxes() == ()
    assert Detections.from_boxes(()) == empty
    assert Detections.concatenate(()) == empty
    assert empty.select(np.zeros(0, np.bool_)) == empty
    assert empty.area.shape == (0,)


def test_documents_round_trip() -> None:
    """Boxes written to a document and read back are the same rows."""
    assert Detections.from_boxes(SOME.to_boxes()) == SOME


def test_select_by_mask_and_index() -> None:
    """A mask keeps order, an index gives its own."""
    assert SOME.select(SOME.confidence >= 0.5).class_id.tolist() == [1, 2]
    assert SOME.select(np.array([2, 0])).class_id.tolist() == [2, 1]
    assert SOME.select(slice(1)).class_id.tolist() == [1]


def test_equality_is_by_content() -> None:
    """Two values with the same rows are equal; other types are not."""
    assert SOME.select(slice(None)) == SOME
    assert SOME.select(slice(2)) != SOME
    assert SOME != "detections"


def test_area_of_turned_boxes_is_zero() -> None:
    """Area is in square pixels, and never negative."""
    assert detections((1, 2, 3, 5, 0.5, 1), (5, 5, 1, 9, 0.5, 1)).area.tolist() == [6.0, 0.0]


def test_concatenate_keeps_order() -> None:
    """Rows of several frames follow each other."""
    assert Detections.concatenate([SOME.select(slice(1)), SOME.select(slice(1, 3))]) == SOME


def with_runner_up(found: Detections, *values: float) -> Detections:
    return Detections(found.xyxy, found.confidence, found.class_id, np.asarray(values, np.float32))


def test_the_runner_up_goes_with_its_rows() -> None:
    """Choosing and joining rows keeps the optional column parallel; it counts for equality."""
    told = with_runner_up(SOME, 0.3, 0.2, 0.1)
    chosen = told.select(np.array([2, 0])).runner_up
    assert chosen is not None
    np.testing.assert_allclose(chosen, [0.1, 0.3])
    assert told != SOME
    assert (
        Detections.concatenate([told.select(slice(1)), Detections.empty(), told.select(slice(1, 3))]) == told
    )


def test_a_runner_up_that_some_rows_lack_is_not_told_of_any() -> None:
    """Rows without the column are not given numbers nobody measured."""
    told = with_runner_up(SOME, 0.3, 0.2, 0.1)
    assert Detections.concatenate([told, SOME]).runner_up is None


def test_a_runner_up_of_another_length_is_refused() -> None:
    """The optional column is parallel like the others."""
    with pytest.raises(ShapeError, match=r"\(2,\) for 3 rows"):
        with_runner_up(SOME, 0.3, 0.2)
