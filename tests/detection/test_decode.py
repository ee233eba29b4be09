"""Raw outputs of every head become the same detections."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from detection.decode import (
    DecodeOptions,
    DenseDecoder,
    decode_dense,
    decode_end2end,
    decode_objectness,
)
from detection.errors import ModelOutputError, ShapeError
from detection.metrics.matching import box_iou
from tests.detection.onnx_models import Row, TinyModel, raw_output

ROWS: tuple[Row, ...] = (
    (8, 8, 24, 24, 0.9, 0),
    (9, 8, 25, 24, 0.8, 0),  # the same object again
    (9, 8, 25, 24, 0.7, 1),  # another class at the same place
    (40, 40, 60, 50, 0.6, 1),
    (30, 2, 34, 6, 0.01, 0),  # too faint
)


def naive(raw: np.ndarray, options: DecodeOptions) -> list[tuple[float, int, tuple[float, ...]]]:
    """Decode box by box, as written in a textbook."""
    found = []
    for column in raw[0].T:
        class_id = int(np.argmax(column[4:]))
        cx, cy, w, h = (float(side) for side in column[:4])
        score = float(column[4 + class_id])
        if score >= options.min_confidence:
            found.append((score, class_id, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)))
    kept: list[tuple[float, int, tuple[float, ...]]] = []
    for one in sorted(found, key=lambda row: -row[0]):
        same = [other for other in kept if other[1] == one[1]]
        overlaps = box_iou(np.array([one[2]]), np.array([other[2] for other in same]).reshape(-1, 4))
        if not len(same) or overlaps.max() <= options.iou:
            kept.append(one)
    return kept[: options.max_detections]


def random_raw(seed: int, classes: int = 5, positions: int = 400) -> np.ndarray:
    random = np.random.default_rng(seed)
    raw = np.empty((1, 4 + classes, positions), np.float32)
    raw[0, :2] = random.uniform(-20, 300, (2, positions))
    raw[0, 2:4] = random.uniform(5, 120, (2, positions))
    raw[0, 4:] = random.random((classes, positions)) ** 3
    return raw


@pytest.mark.parametrize(
    ("model", "decode"),
    [
        (TinyModel(ROWS), decode_dense),
        (TinyModel(ROWS, objectness=True), decode_objectness),
    ],
)
def test_doubles_are_suppressed_within_their_class(model: TinyModel, decode) -> None:  # type: ignore[no-untyped-def]
    """Of overlapping boxes of one class the strongest stays; other classes do not suppress it."""
    found = decode(raw_output(model))
    assert found.class_id.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.confidence, [0.9, 0.7, 0.6])
    np.testing.assert_allclose(found.xyxy[0], [8, 8, 24, 24])


def test_end_to_end_rows_are_taken_as_they_are() -> None:
    """An end-to-end head has suppressed doubles itself; only faint rows and padding are dropped."""
    found = decode_end2end(raw_output(TinyModel(ROWS, head="end2end")))
    assert found.class_id.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found.xyxy[3], [40, 40, 60, 50])


@pytest.mark.parametrize("seed", range(12))
def test_dense_decoding_equals_the_textbook(seed: int) -> None:
    """Columns give the same boxes as decoding one box after the other, boxes left of zero included."""
    raw = random_raw(seed)
    options = DecodeOptions(min_confidence=0.4, iou=0.5, max_detections=80)
    found = decode_dense(raw, options)
    expected = naive(raw, options)
    assert found.class_id.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.confidence, [row[0] for row in expected])
    np.testing.assert_allclose(found.xyxy, [row[2] for row in expected], atol=1e-3)


def test_objectness_multiplies_the_class_score() -> None:
    """The older YOLOv5 head's score is objectness times class score."""
    raw = raw_output(TinyModel(ROWS, objectness=True))
    raw[0, :, 4] = 0.5
    np.testing.assert_allclose(decode_objectness(raw).confidence, [0.45, 0.35, 0.3])


@pytest.mark.parametrize("head", ["dense", "end2end"])
def test_nothing_found_is_empty(head: str) -> None:
    """A model that finds nothing gives an empty value."""
    raw = raw_output(TinyModel((), head=head))  # type: ignore[arg-type]
    assert len({"dense": decode_dense, "end2end": decode_end2end}[head](raw)) == 0


def test_no_positions_at_all_is_empty() -> None:
    """Outputs of length zero, as dynamic graphs may give, are empty."""
    assert len(decode_dense(np.zeros((1, 6, 0), np.float32))) == 0
    assert len(decode_end2end(np.zeros((1, 0, 6), np.float32))) == 0
    assert len(decode_objectness(np.zeros((1, 0, 7), np.float32))) == 0


@pytest.mark.parametrize(
    ("decode", "shape"),
    [
        (decode_end2end, (1, 10, 7)),
        (decode_end2end, (2, 10, 6)),
        (decode_dense, (1, 4, 10)),
        (decode_dense, (6, 10)),
        (decode_objectness, (1, 10, 5)),
        (DenseDecoder(9), (1, 6, 10)),
    ],
)
def test_other_shapes_are_refused(decode, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    """Output of another shape is refused with the shape it has."""
    with pytest.raises(ShapeError) as caught:
        decode(np.zeros(shape, np.float32))
    assert str(shape) in str(caught.value)


def test_broken_numbers_are_an_error() -> None:
    """A broken engine must not look like a good part, whatever else was found."""
    dense = raw_output(TinyModel(ROWS))
    rows = raw_output(TinyModel(ROWS, head="end2end"))
    objects = np.zeros((1, 4, 7), np.float32)
    objects[0, 0] = (20, 20, 8, 8, 0.9, 0.9, 0.1)
    cases = (
        (decode_dense, dense, (0, 0, 0), (0, 4, 3)),
        (decode_end2end, rows, (0, 0, 2), (0, 1, 4)),
        (decode_objectness, objects, (0, 0, 1), (0, 2, 4)),
        (decode_objectness, objects, (0, 0, 1), (0, 0, 6)),
    )
    for decode, raw, place, score in cases:
        assert len(decode(raw)) > 0
        for at, broken in ((place, np.nan), (place, np.inf), (score, np.nan)):
            worse = raw.copy()
            worse[at] = broken
            with pytest.raises(ModelOutputError, match="none"):
                decode(worse)


def test_limits_keep_the_strongest() -> None:
    """Both limits, before and after suppression, keep the highest scores."""
    raw = random_raw(3)
    everything = decode_dense(raw, DecodeOptions(0.05, 0.99, 400))
    assert decode_dense(raw, DecodeOptions(0.05, 0.99, 7)) == everything.select(slice(7))
    assert decode_dense(raw, DecodeOptions(0.05, 0.99, 400, 7)) == everything.select(slice(7))
    many = raw_output(TinyModel(ROWS, head="end2end"))
    assert decode_end2end(many, DecodeOptions(max_detections=2)).confidence.tolist() == pytest.approx(
        [0.9, 0.8]
    )


def test_scores_above_one_are_cut() -> None:
    """Rounding in an engine may give 1.0000001; documents allow 1.0 at most."""
    rows = raw_output(TinyModel(((1, 1, 9, 9, 1.0001, 0),), head="end2end"))
    dense = raw_output(TinyModel(((1, 1, 9, 9, 1.0001, 0),)))
    assert decode_end2end(rows).to_boxes()[0].confidence == 1.0
    assert decode_dense(dense).to_boxes()[0].confidence == 1.0


@pytest.mark.parametrize(("classes", "hits"), [(6, 300), (80, 300)])
def test_decoding_allocates_nothing_large(classes: int, hits: int) -> None:
    """In steady state no step allocates more than 64 kB, also with 80 classes and 300 candidates."""
    raw = random_raw(5, classes, 8400)
    raw[0, 4:] = 0.0
    raw[0, 4, :hits] = 0.5
    decoder = DenseDecoder(8400)
    decoder(raw)
    tracemalloc.start()
    decoder(raw)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024


@pytest.mark.parametrize(
    ("decode", "shape"),
    [(decode_dense, (1, 6, 100)), (decode_end2end, (1, 300, 6)), (decode_objectness, (1, 300, 7))],
)
def test_a_frame_of_broken_numbers_is_no_frame_without_findings(decode, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    """An engine that overflows must not make every part look good."""
    with pytest.raises(ModelOutputError):
        decode(np.full(shape, np.nan, np.float32))
    one = np.zeros(shape, np.float32)
    assert len(decode(one)) == 0
    one[(0, 4, 3) if decode is decode_dense else (0, 3, 4)] = np.nan
    with pytest.raises(ModelOutputError):
        decode(one)
