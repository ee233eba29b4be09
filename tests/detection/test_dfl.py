"""A head that ends early says what the decoded head says, for far less work."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.detections import Detections
from detection.dfl import DflDecoder, Level
from detection.errors import ModelOutputError, ShapeError
from detection.suppression import DecodeOptions

LEVELS = (Level(8, 4, 6), Level(16, 2, 3))
CELLS = sum(level.cells for level in LEVELS)
BINS, CLASSES = 8, 3
EVERYTHING = DecodeOptions(min_confidence=0.0, iou=1.0, max_detections=CELLS)
Arrays = list[np.ndarray]


def outputs(seed: int, spread: float = 3.0) -> Arrays:
    """Draw a head's answer."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(0, spread, (1, channels, level.height, level.width)).astype(np.float32)
        for level in LEVELS
        for channels in (4 * BINS, CLASSES)
    ]


def naive(answer: Arrays) -> list[tuple[list[float], float, float, int]]:
    """Decode every cell one by one: corners, best and second-best confidence, class."""
    rows = []
    for level, boxes, logits in zip(LEVELS, answer[0::2], answer[1::2], strict=True):
        for cell in range(level.cells):
            y, x = divmod(cell, level.width)
            # By logits, for scores near one are the same number.
            ranked = sorted((value, k) for k, value in enumerate(logits[0, :, y, x].tolist()))
            scores = [(1 / (1 + math.exp(-value)), k) for value, k in ranked]
            reach = []
            for side in range(4):
                weights = [
                    math.exp(value) for value in boxes[0, side * BINS : (side + 1) * BINS, y, x].tolist()
                ]
                reach.append(sum(k * weight for k, weight in enumerate(weights)) / sum(weights))
            corners = (x + 0.5 - reach[0], y + 0.5 - reach[1], x + 0.5 + reach[2], y + 0.5 + reach[3])
            rows.append(
                ([value * level.stride for value in corners], scores[-1][0], scores[-2][0], scores[-1][1])
            )
    return rows


def decoder(**options: float) -> DflDecoder:
    """Build a decoder of the test's head."""
    chosen = {"min_confidence": 0.0, "iou": 1.0, "max_detections": CELLS, **options}
    return DflDecoder(LEVELS, BINS, CLASSES, DecodeOptions(**chosen))  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 20.0))
@settings(max_examples=60, deadline=None)
def test_every_cell_decodes_as_by_hand(seed: int, spread: float) -> None:
    """Boxes within a thousandth of a pixel, scores within a millionth, the same classes."""
    answer = outputs(seed, spread)
    found, expected = decoder().every_cell(answer), naive(answer)
    np.testing.assert_allclose(found.xyxy, [row[0] for row in expected], atol=1e-3)
    np.testing.assert_allclose(found.confidence, [row[1] for row in expected], atol=1e-6)
    assert found.runner_up is not None
    np.testing.assert_allclose(found.runner_up, [row[2] for row in expected], atol=1e-6)
    assert found.class_id.tolist() == [row[3] for row in expected]


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3, 0.5, 0.9]))
@settings(max_examples=40, deadline=None)
def test_only_what_reaches_the_threshold_is_reported(seed: int, threshold: float) -> None:
    """The threshold on logits chooses the very cells that a threshold on confidences does."""
    answer = outputs(seed)
    found = decoder(min_confidence=threshold)(answer)
    expected = sorted((row[1] for row in naive(answer) if row[1] >= threshold), reverse=True)
    np.testing.assert_allclose(found.confidence, expected, atol=1e-6)


def test_a_frame_without_candidates_is_empty() -> None:
    """Nothing reaches the threshold on most frames of a good line."""
    answer = [np.full_like(array, -12.0) for array in outputs(1)]
    assert decoder(min_confidence=0.05)(answer) == Detections.empty()
    assert len(decoder(min_confidence=1.0)(outputs(1))) == 0


def test_overlapping_boxes_of_a_class_go_through_suppression() -> None:
    """All cells that see one object give one detection, the strongest, and the columns stay parallel."""
    answer = [np.full_like(array, -30.0) for array in outputs(1)]
    for x in (2, 3):  # both see the box from 8 to 40, 4 to 28
        for side, reach in enumerate(((x + 0.5) - 1, 1.0, 5 - (x + 0.5), 2.0)):
            low, rest = int(reach), reach - int(reach)
            answer[0][0, side * BINS + low, 1, x] = math.log(max(1 - rest, 1e-9))
            answer[0][0, side * BINS + low + 1, 1, x] = math.log(max(rest, 1e-9))
        answer[1][0, 2, 1, x] = float(x)
    found = decoder(min_confidence=0.5, iou=0.6)(answer)
    np.testing.assert_allclose(found.xyxy, [[8, 4, 40, 28]], atol=1e-3)
    assert found.class_id.tolist() == [2]
    np.testing.assert_allclose(found.confidence, [1 / (1 + math.exp(-3.0))], rtol=1e-6)
    assert found.runner_up is not None
    assert found.runner_up.shape == (1,)


def test_the_strongest_candidates_are_kept() -> None:
    """A frame with too many candidates loses the weakest of them."""
    answer = outputs(3)
    everything = decoder()(answer)
    some = decoder(max_candidates=5)(answer)
    np.testing.assert_allclose(some.confidence, everything.confidence[:5])


@pytest.mark.parametrize("broken", [np.nan, -np.nan])
def test_a_score_that_is_no_number_is_an_error(broken: float) -> None:
    """A broken engine finds nothing, or only weak things elsewhere: neither is a good part."""
    for spread in (0.001, 3.0):
        answer = outputs(4, spread)
        answer[3][0, 1, 1, 2] = broken
        for threshold in (0.05, 0.9):
            with pytest.raises(ModelOutputError, match="scores that are none"):
                decoder(min_confidence=threshold)(answer)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_candidate_without_a_place_is_an_error(broken: float) -> None:
    """Something was found, and where is unknown; of a place nobody asks for it does not matter."""
    answer = outputs(4)
    answer[0][0, 3, 1, 1] = broken
    with np.errstate(invalid="ignore"), pytest.raises(ModelOutputError, match="1 boxes that have none"):
        decoder(min_confidence=1e-6)(answer)
    answer[1][0, :, 1, 1] = -30.0
    found = decoder(min_confidence=1e-6)(answer)
    assert len(found) == CELLS - 1


def test_scores_without_end_are_certain() -> None:
    """Infinite logits are the ends of the scale."""
    answer = [np.full_like(array, -np.inf if index % 2 else 0.0) for index, array in enumerate(outputs(4))]
    assert len(decoder(min_confidence=0.05)(answer)) == 0
    answer[1][0, 1, 2, 2] = np.inf
    found = decoder(min_confidence=0.05)(answer)
    assert (found.confidence.tolist(), found.class_id.tolist()) == ([1.0], [1])
    assert found.runner_up is not None
    assert found.runner_up.tolist() == pytest.approx([0.0])


def test_one_class_has_no_runner_up() -> None:
    """Where there is no second class the margin is not told, rather than told as certain."""
    single = DflDecoder(LEVELS, BINS, 1, EVERYTHING)
    answer = [array[:, :1] if index % 2 else array for index, array in enumerate(outputs(5))]
    assert single(answer).runner_up is None


@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_other_shapes_are_refused(broken: int) -> None:
    """Outputs that do not fit the levels are refused with the shape they have."""
    answer = outputs(6)
    answer[broken] = answer[broken][:, :-1]
    with pytest.raises(ShapeError) as caught:
        decoder()(answer)
    assert str(answer[broken].shape) in str(caught.value)


def test_a_frame_full_of_candidates_allocates_little() -> None:
    """Of 8,400 cells that all answer, a thousand are decoded in memory that was there before."""
    levels = (Level(8, 80, 80), Level(16, 40, 40), Level(32, 20, 20))
    rng = np.random.default_rng(0)
    answer = [
        rng.normal(0, 2, (1, channels, level.height, level.width)).astype(np.float32)
        for level in levels
        for channels in (64, 80)
    ]
    decode = DflDecoder(levels, 16, 80, DecodeOptions(min_confidence=0.9))
    decode(answer)
    tracemalloc.start()
    found = decode(answer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 300
    assert peak < 512 * 1024


def test_a_frame_of_broken_numbers_is_no_frame_without_findings() -> None:
    """An engine that overflows must not make every part look good."""
    with pytest.raises(ModelOutputError):
        decoder()([np.full_like(array, np.nan) for array in outputs(6)])
