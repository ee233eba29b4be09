"""Test that a blind camera is told from a row of good parts."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.counters import FAULTY, Counters
from edge_agent.events import Events
from edge_agent.sources import Frame, MemoryReader
from edge_agent.sources.checked import CheckedReader
from edge_agent.sources.faults import (
    FaultLimits,
    FrozenWatch,
    fault_of,
    is_black,
    is_whole_jpeg,
    is_wrong_size,
    look,
)
from tests.edge_agent.builders import WHEN, jpeg, picture

NOISE = np.random.default_rng(7)


def noisy(level: float, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """Draw what a sensor gives: a level and its noise."""
    return NOISE.normal(level, 2.0, (*size, 3)).clip(0, 255).astype(np.uint8)


def frame(image: np.ndarray, moment: float = 0.0) -> Frame:
    return Frame(image, WHEN, "part-1", captured_mono=moment)


@pytest.mark.parametrize(
    ("image", "black"),
    [
        (np.zeros((60, 80, 3), np.uint8), True),
        (noisy(2.0), True),
        (noisy(40.0), False),
        (np.full((60, 80, 3), 255, np.uint8), False),
        (picture(0), False),
        (np.zeros((1, 1, 3), np.uint8), True),
    ],
)
def test_black_means_dark_everywhere(image: np.ndarray, black: bool) -> None:
    """Noise does not make it bright; one bright thing does."""
    assert is_black(look(image), FaultLimits()) is black
    assert not is_black(look(image), FaultLimits(black=False))


def test_a_dark_picture_with_a_bright_part_is_not_black() -> None:
    """A part under dark field light is mostly dark."""
    image = np.zeros((1080, 1920, 3), np.uint8)
    image[500:560, 900:1000] = 200
    assert not is_black(look(image), FaultLimits())


def test_a_look_is_cheap() -> None:
    """At 1080p it costs far less than a tenth of the frame's budget."""
    image = noisy(100.0, (1080, 1920))
    times = []
    for _ in range(200):
        began = time.perf_counter()
        look(image)
        times.append(time.perf_counter() - began)
    # 0.03 ms on the machine this was written on; the bound leaves room for a busy one.
    assert sorted(times)[len(times) // 2] < 0.0005


def test_frozen_needs_frames_and_time() -> None:
    """The same picture twice is no fault, nor many within a moment."""
    limits, still = FaultLimits(frozen_s=1.0, frozen_frames=3), look(noisy(100.0))
    watch = FrozenWatch(limits)
    assert [watch.is_frozen(still, t) for t in (0.0, 0.1, 0.2, 0.9, 1.0, 1.1)] == [False] * 4 + [True] * 2
    assert not watch.is_frozen(look(noisy(100.0)), 1.2)
    slow = FrozenWatch(limits)
    assert [slow.is_frozen(still, t) for t in (0.0, 5.0, 10.0)] == [False, False, True]
    assert not any(FrozenWatch(FaultLimits(frozen_s=0.0)).is_frozen(still, t) for t in range(100))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(2, 6))
def test_a_picture_that_changes_is_never_frozen(values: list[int], frames: int) -> None:
    """Frozen only after as many equal pictures in a row, and always then."""
    limits = FaultLimits(frozen_s=float(frames - 1), frozen_frames=frames)
    watch, run, last = FrozenWatch(limits), 0, -1
    for moment, value in enumerate(values):
        run, last = (run + 1 if value == last else 1), value
        assert watch.is_frozen(look(np.full((8, 8, 3), value, np.uint8)), float(moment)) == (run >= frames)


def test_a_fixed_size_is_held_and_any_other_goes_before_the_picture() -> None:
    """A wrong size is a fault even of a black picture."""
    limits = FaultLimits(width=80, height=60)
    assert not is_wrong_size(look(noisy(9.0)), limits)
    small = look(np.zeros((30, 40, 3), np.uint8))
    assert is_wrong_size(small, limits)
    assert not is_wrong_size(small, FaultLimits())
    assert fault_of(small, 0.0, limits, FrozenWatch(limits)) == "size"


def test_faulty_frames_are_marked_counted_and_told_until_a_good_one_comes() -> None:
    """The problem stands as long as the fault, and is noted once."""
    counters, events = Counters(), Events()
    good, black = frame(noisy(90.0)), frame(np.zeros((60, 80, 3), np.uint8))
    reader = CheckedReader(MemoryReader([good, black, black, good]), FaultLimits(), counters, events)
    assert [found.fault for found in (reader.read(0.1), reader.read(0.1), reader.read(0.1)) if found] == [
        "",
        "black",
        "black",
    ]
    assert counters.value(FAULTY) == 2
    assert events.count("camera.black") == 1
    assert "lens cap" in events.problems()["camera.black"]
    assert reader.read(0.1) is good
    assert events.problems() == {}


def test_faulty_frames_of_a_camera_without_trigger_are_kept_back() -> None:
    """They stand for no part; the loop sees nothing, and the box says why."""
    counters, events, still = Counters(), Events(), noisy(90.0)
    frames = [frame(still, n * 0.1) for n in range(10)]
    limits = FaultLimits(frozen_s=0.5, frozen_frames=3)
    reader = CheckedReader(MemoryReader(frames, ends=True), limits, counters, events, withhold=True)
    found = [reader.read(0.1) for _ in frames]
    assert [item is not None for item in found] == [True] * 5 + [False] * 5
    assert counters.value(FAULTY) == 5
    assert list(events.problems()) == ["camera.frozen"]
    assert reader.is_ended()


def test_another_size_mid_stream_is_told_once_and_the_frames_go_on() -> None:
    """The letterbox adapts; the problem ends when the first size is back."""
    events = Events()
    images = [noisy(90.0), noisy(90.0, (30, 40)), noisy(90.0, (30, 40)), noisy(90.0)]
    source = MemoryReader([frame(image) for image in images])
    reader = CheckedReader(source, FaultLimits(), Counters(), events)
    for expected in (0, 1, 1):
        found = reader.read(0.1)
        assert found is not None
        assert found.fault == ""
        assert events.count("camera.size-changed") == expected
    assert events.problems() == {"capture.size-changed": "80x60 became 40x30"}
    assert reader.read(0.1) is not None
    assert events.problems() == {}
    reader.close()
    assert source.closed


def test_another_size_than_the_fixed_one_is_a_fault() -> None:
    """Who fixed a size wants no other."""
    events = Events()
    reader = CheckedReader(
        MemoryReader([frame(noisy(90.0, (30, 40)))]), FaultLimits(width=80, height=60), Counters(), events
    )
    found = reader.read(0.1)
    assert found is not None
    assert found.fault == "size"
    assert "camera.size" in events.problems()


def test_a_jpeg_is_whole_only_with_its_own_end() -> None:
    """A thumbnail's end does not count, nor does a file cut at any place."""
    whole = cv2.imencode(".jpg", noisy(120.0, (120, 160)))[1].tobytes()
    assert is_whole_jpeg(whole)
    assert is_whole_jpeg(whole + b"a camera's own words")
    assert not any(is_whole_jpeg(whole[:length]) for length in range(2, len(whole) - 2, 7))
    thumbnail = jpeg(1)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = whole[:2] + segment + whole[2:]
    assert is_whole_jpeg(with_thumbnail)
    assert not is_whole_jpeg(with_thumbnail[:-200])


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_without_an_error(content: bytes) -> None:
    """Foreign bytes are no whole JPEG, and end the search."""
    assert is_whole_jpeg(b"\xff\xd8" + content) in (True, False)
