"""Test which frames are near duplicates: those that agree in findings and look, and no others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.line.script import CHANGED, draw_part
from edge_agent.mining.looks import LookLimits, RecentLooks, look_of, same_findings
from edge_agent.mining.seen import SeenFrame
from tests.edge_agent.mining.frames import found, seen, some_detections

LIMITS = LookLimits(low=0.2, remembered=8)


class Looks:
    """Remember looks on a clock the test moves."""

    def __init__(self, limits: LookLimits = LIMITS) -> None:
        self.now = 0.0
        self.recent = RecentLooks(limits, lambda: self.now)

    def knows(self, image: np.ndarray, frame: SeenFrame, *, keep: bool = True) -> bool:
        """Tell whether a frame is known; keep it as the miner would when it is not."""
        look = look_of(image, frame.features)
        known = self.recent.is_duplicate(frame, look)
        if keep and not known:
            self.recent.add(frame, look)
        return known


def noisy(image: np.ndarray, seed: int, gain: float = 1.0) -> np.ndarray:
    """Return the picture as a camera takes it again: noise, and a lamp that is not quite steady."""
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image * gain + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    """Return pictures of parts of the synthetic line."""
    return [draw_part(CHANGED, 3, number).image for number in range(60)]


def test_no_part_of_the_synthetic_line_is_taken_for_another(parts: list[np.ndarray]) -> None:
    """Sixty boards of six layouts, all without findings, are sixty frames to keep."""
    looks = Looks(LookLimits(remembered=64))
    assert not any(looks.knows(image, seen(found())) for image in parts)
    assert len(looks.recent) == 60


def test_a_part_that_stands_still_is_kept_once(parts: list[np.ndarray]) -> None:
    """The belt has stopped: noise and flicker of the lamp make no new picture of it."""
    for image in parts[:20]:
        looks = Looks()
        assert not looks.knows(noisy(image, 0), seen(found((0.5, 1))))
        assert all(
            looks.knows(noisy(image, number, gain), seen(found((0.55, 1)), part=f"part-{number}"))
            for number, gain in enumerate((1.0, 0.98, 1.02), start=1)
        )


def test_the_same_picture_with_other_findings_is_new(parts: list[np.ndarray]) -> None:
    """A class more, a class less, another class or another place: the frame says something new."""
    looks, image = Looks(), parts[0]
    here, away = (8.0, 8.0, 40.0, 40.0), (100.0, 8.0, 140.0, 40.0)
    for findings in (
        found((0.5, 0, here, 0.0)),
        found((0.5, 1, here, 0.0)),
        found((0.5, 0, away, 0.0)),
        found((0.5, 0, here, 0.0), (0.5, 0, away, 0.0)),
        found(),
    ):
        assert not looks.knows(image, seen(findings))
        assert looks.knows(image, seen(findings))


def test_a_small_mark_makes_another_picture(parts: list[np.ndarray]) -> None:
    """What the model does not see the thumb still does: a dark scratch on an otherwise equal part."""
    looks, image = Looks(), parts[0]
    assert not looks.knows(image, seen(found()))
    marked = image.copy()
    marked[150:156, 100:180] = 255 - marked[150:156, 100:180] // 2
    assert not looks.knows(marked, seen(found()))


def test_a_mark_smaller_than_a_cell_makes_another_picture(parts: list[np.ndarray]) -> None:
    """A board that stands still gets a mark the model misses, a hundredth of the frame wide: it is kept."""
    for scale in (1, 4):
        for number, part in enumerate(parts[:20]):
            image = cv2.resize(part, None, fx=scale, fy=scale)
            looks, side = Looks(), image.shape[0] // 80
            assert not looks.knows(noisy(image, 0), seen(found()))
            marked = image.copy()
            top, left = ((37 + 11 * number) % 300) * scale, ((59 + 13 * number) % 300) * scale
            spot = marked[top : top + side, left : left + side]
            spot[:] = np.where(spot.mean() > 127, 0, 255)
            assert not looks.knows(noisy(marked, 1), seen(found(), part="next")), (scale, number)


def test_hundreds_of_like_vectors_cost_the_loop_little(parts: list[np.ndarray]) -> None:
    """Where all vectors are alike few cells tell rows apart; not one whole thumb need be compared."""
    looks = Looks(LookLimits(remembered=64))
    vector = np.ones(16, np.float32)
    for image in parts:
        assert not looks.knows(image, seen(found(), features=vector))
    for image in (draw_part(CHANGED, 4, number).image for number in range(10)):
        assert len(looks.recent._alike(look_of(image, vector))) <= 1


def test_a_kept_frame_is_recent_for_a_time_and_the_oldest_makes_room(parts: list[np.ndarray]) -> None:
    """After an hour the same picture is kept again; memory is bounded."""
    looks = Looks()
    assert not looks.knows(parts[0], seen(found()))
    looks.now = LIMITS.seconds + 1
    assert not looks.knows(parts[0], seen(found()))
    for image in parts[1:10]:
        looks.knows(image, seen(found()))
    assert len(looks.recent) == LIMITS.remembered
    assert not looks.knows(parts[0], seen(found()), keep=False)


def test_features_choose_what_is_compared_and_another_model_begins_anew(parts: list[np.ndarray]) -> None:
    """Vectors near by bring frames together whose hash differs; vectors of another length are no error."""
    looks, image = Looks(LookLimits(bits=0, grey=255, remembered=8)), parts[0]
    vector = np.asarray([1.0, 2.0, 3.0], np.float32)
    assert not looks.knows(image, seen(found(), features=vector))
    assert looks.knows(parts[1], seen(found(), features=vector * 5))
    assert not looks.knows(parts[2], seen(found(), features=np.asarray([3.0, -2.0, 1.0], np.float32)))
    assert not looks.knows(parts[3], seen(found(), features=np.ones(5, np.float32)))
    assert not looks.knows(parts[4], seen(found(), features=np.full(5, np.nan, np.float32)))
    assert not looks.knows(parts[5], seen(found(), features=np.zeros(0, np.float32)))


@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_any_frame_has_a_look_and_is_its_own_duplicate(width: int, height: int, seed: int) -> None:
    """Also a frame of one pixel, or of one colour."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for picture in (image, np.zeros_like(image)):
        looks = Looks()
        assert not looks.knows(picture, seen(found()))
        assert looks.knows(picture, seen(found()))


@given(one=some_detections(), other=some_detections(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_findings_agree_both_ways_and_in_any_order(one, other, seed: int) -> None:
    """Agreement is symmetric and does not depend on the order of boxes."""
    shuffled = one.select(np.random.default_rng(seed).permutation(len(one)))
    assert same_findings(one, other, 0.2) == same_findings(other, one, 0.2)
    assert same_findings(one, other, 0.2) == same_findings(shuffled, other, 0.2)
