"""Test the head start: the next frame is prepared while the engine runs, and nothing depends on it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from detection.detections import Detections
from edge_agent.counters import DROPPED, Counters
from edge_agent.events import Events
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.prefetch import Prefetch, should_overlap
from edge_agent.sources import Capture, CaptureOptions, MemoryReader
from edge_agent.sources.base import Frame
from tests.edge_agent.builders import boxes, frame_of, model_of
from tests.helpers import wait_until


class Bench:
    """Be a source, a slot and a prefetch without a loop, so that a test chooses each moment."""

    def __init__(self, mode: str = "every") -> None:
        self.reader, self.counters = MemoryReader(), Counters()
        options = CaptureOptions(mode=mode)  # type: ignore[arg-type]
        self.capture = Capture(self.reader, options, self.counters, Events())
        self.slot = ModelSlot()
        self.prefetch = Prefetch(self.capture, self.slot)
        self.capture.start()
        self.prefetch.start()

    def serve(self, model: ServingModel) -> ServingModel:
        self.slot.offer(model)
        self.slot.take()
        return model

    def ready(self, frame: Frame) -> None:
        prefetch = self.prefetch
        wait_until(lambda: prefetch._frame is frame and not prefetch._is_busy, 5, "a prepared frame")

    def end(self) -> None:
        self.prefetch.stop()
        self.reader.end()
        self.capture.stop()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**options: str) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make
    for bench in made:
        bench.end()


def brightness(canvas: np.ndarray) -> Detections:
    """Answer with the canvas's brightness as the confidence."""
    return boxes((float(canvas.mean()) / 255.0, 0))


def test_the_next_frame_is_ready_before_it_is_taken(make_bench: Callable[..., Bench]) -> None:
    """What was prepared is the frame the loop takes, and gives the answer it gives without a head start."""
    bench = make_bench()
    model = bench.serve(model_of(1, brightness))
    frame = frame_of(200)
    bench.reader.feed(frame)
    bench.ready(frame)
    assert bench.capture.read(1.0) is frame
    prepared = bench.prefetch.take(frame)
    assert prepared is not None
    assert model.detector.detect(prepared).detections == model.detector.infer(frame.image).detections
    assert bench.prefetch.used == 1


def test_preparing_takes_no_frame_from_the_source(make_bench: Callable[..., Bench]) -> None:
    """A frame that was prepared and never inspected is still the source's: nothing is lost."""
    bench = make_bench()
    bench.serve(model_of(1, boxes()))
    frames = [frame_of(seed) for seed in range(6)]
    bench.reader.feed(*frames)
    bench.ready(frames[0])
    bench.prefetch.stop()
    assert [bench.capture.read(1.0) for _ in frames] == frames


def test_in_mode_live_a_newer_frame_takes_the_place_of_a_prepared_one(
    make_bench: Callable[..., Bench],
) -> None:
    """Latest frame wins, prepared or not; the one let go is counted."""
    bench = make_bench(mode="live")
    bench.serve(model_of(1, boxes()))
    old, new = frame_of(1), frame_of(2)
    bench.reader.feed(old)
    bench.ready(old)
    bench.reader.feed(new)
    bench.ready(new)
    assert bench.capture.read(1.0) is new
    assert bench.prefetch.take(new) is not None
    assert bench.counters.value(DROPPED) == 1


def test_a_swap_between_preparing_and_inspecting_is_harmless(make_bench: Callable[..., Bench]) -> None:
    """The new model inspects a frame that was prepared for the old one, which may be closed by then."""
    bench = make_bench()
    old = bench.serve(model_of(1, boxes((0.1, 0))))
    frame = frame_of(200)
    bench.reader.feed(frame)
    bench.ready(frame)
    new = bench.serve(model_of(2, brightness))
    old.detector.close()
    bench.capture.read(1.0)
    prepared = bench.prefetch.take(frame)
    assert prepared is not None
    assert new.detector.detect(prepared).detections == new.detector.infer(frame.image).detections


def test_what_cannot_be_prepared_is_left_to_the_loop(make_bench: Callable[..., Bench]) -> None:
    """A frame that is no picture gives no head start, and the frame after it does."""
    bench = make_bench()
    bench.serve(model_of(1, boxes()))
    good = frame_of(1)
    broken = Frame(np.zeros((4, 4), np.uint8), good.captured_at, "broken")
    bench.reader.feed(broken, good)
    bench.ready(broken)
    assert bench.capture.read(1.0) is broken
    assert bench.prefetch.take(broken) is None
    bench.ready(good)
    assert bench.prefetch.take(good) is not None


def test_a_frame_nobody_prepared_is_not_waited_for(make_bench: Callable[..., Bench]) -> None:
    """The loop that is faster than the head start goes on by itself."""
    bench = make_bench()
    assert bench.prefetch.take(frame_of(1)) is None


def test_the_loop_waits_for_a_frame_that_is_being_prepared(make_bench: Callable[..., Bench]) -> None:
    """A preparation that has begun is finished, not done twice."""
    bench = make_bench()
    model = bench.serve(model_of(1, boxes()))
    entered, go_on = threading.Event(), threading.Event()
    prepare = model.detector.prepare

    def slow(image: np.ndarray) -> object:
        entered.set()
        go_on.wait(5)
        return prepare(image)

    model.detector.prepare = slow  # type: ignore[method-assign,assignment]
    frame = frame_of(1)
    bench.reader.feed(frame)
    assert entered.wait(5)
    bench.capture.read(1.0)
    threading.Timer(0.05, go_on.set).start()
    assert bench.prefetch.take(frame) is not None


def test_frames_overlap_by_themselves_only_where_a_core_is_left() -> None:
    """One core computes and prepares in turn; the operator's word counts above that."""
    cores = len(os.sched_getaffinity(0))
    assert should_overlap("auto", cores) is False
    assert should_overlap("auto", cores - 1) is True
    assert should_overlap("on", cores) is True
    assert should_overlap("off", 1) is False


def test_what_is_taken_is_always_of_the_frame_that_was_asked_for(make_bench: Callable[..., Bench]) -> None:
    """The thread may go on to the next frame before the loop wakes: then there is no head start, never a wrong one."""
    bench = make_bench()
    bench.serve(model_of(1, boxes()))
    frames = [frame_of(number, part=f"part-{number}") for number in range(1500)]
    bench.reader.feed(*frames)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for frame in frames:
            taken = bench.capture.read(5)
            assert taken is frame
            prepared = bench.prefetch.take(frame)
            assert prepared is None or prepared.frame is frame.image
    finally:
        sys.setswitchinterval(interval)
    assert bench.prefetch.used > 0


def test_a_last_frame_that_waits_is_looked_at_once(make_bench: Callable[..., Bench]) -> None:
    """A source that has ended while its frames wait for a model costs no processor."""
    bench = make_bench()
    frame = frame_of(1)
    bench.reader.feed(frame)
    bench.reader.end()
    wait_until(lambda: bench.capture._ended, 5, "the source's end")
    assert bench.capture.peek(None, 5.0) is frame
    began = time.monotonic()
    assert bench.capture.peek(frame, 0.2) is None
    assert time.monotonic() - began >= 0.2
    assert bench.capture.read(0.0) is frame
    assert bench.capture.peek(frame, 60.0) is None
