"""Test what stands between a source and the loop: never skipping, or always the newest."""

from __future__ import annotations

import threading
import time

import pytest

from edge_agent.counters import DROPPED, Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, Frame, MemoryReader
from tests.edge_agent.builders import frame_of
from tests.helpers import wait_until


class FlakyReader(MemoryReader):
    """Fail a number of times before it works."""

    def __init__(self, failures: list[Exception]) -> None:
        super().__init__([frame_of(1)])
        self.failures = failures

    def read(self, wait_s: float) -> Frame | None:
        if self.failures:
            raise self.failures.pop()
        return super().read(wait_s)


class HungReader(MemoryReader):
    """Hang as a driver does, whatever the caller wants."""

    def read(self, wait_s: float) -> Frame | None:
        threading.Event().wait(30)
        return None


def capture_of(reader: MemoryReader, counters: Counters, **options: object) -> Capture:
    capture = Capture(reader, CaptureOptions(**options), counters, Events())  # type: ignore[arg-type]
    capture.start()
    return capture


def test_in_mode_every_no_frame_is_skipped() -> None:
    """A slow loop slows the reader instead."""
    counters = Counters()
    capture = capture_of(MemoryReader([frame_of(n) for n in range(30)], ends=True), counters)
    found = []
    while not capture.is_ended():
        frame = capture.read(0.5)
        if frame is not None:
            found.append(frame.part_id)
            time.sleep(0.002)
    assert found == [f"part-{n}" for n in range(30)]
    assert counters.value(DROPPED) == 0


def test_in_mode_live_the_newest_frame_wins_and_the_others_are_counted() -> None:
    """The loop never works on an old picture."""
    counters, reader, skipped = Counters(), MemoryReader(), []
    capture = Capture(reader, CaptureOptions(mode="live"), counters, Events(), CaptureHooks(skipped.append))
    capture.start()
    reader.feed(*[frame_of(n) for n in range(5)])
    wait_until(lambda: counters.value(DROPPED) == 4, 5, "four frames to be replaced")
    frame = capture.read(1.0)
    assert frame is not None
    assert frame.part_id == "part-4"
    assert [one.part_id for one in skipped] == [f"part-{n}" for n in range(4)]
    capture.stop()


def test_a_file_waits_for_a_slow_disk_but_not_for_a_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room frames pause, come at once when there is room, and come anyway when patience is over."""
    monkeypatch.setattr("edge_agent.sources.capture.PATIENCE_S", 0.2)
    room = threading.Event()
    reader = MemoryReader([frame_of(n) for n in range(50)], ends=True)
    capture = Capture(reader, CaptureOptions(), Counters(), Events(), CaptureHooks(has_room=room.is_set))
    capture.start()
    assert capture.read(0.1) is None
    room.set()
    assert capture.read(1.0) is not None
    room.clear()
    began = time.monotonic()
    while not capture.is_ended():
        capture.read(0.5)
    # One wait, not one for each of the frames.
    assert time.monotonic() - began < 1.0


def test_in_mode_parts_no_frame_is_replaced_and_no_disk_waited_for() -> None:
    """Each frame is a part a trigger told of; they queue, and the camera does not care for the outbox."""
    counters = Counters()
    reader = MemoryReader([frame_of(n) for n in range(30)], ends=True)
    options = CaptureOptions(mode="parts", read_ahead=8, fps_limit=1.0)
    capture = Capture(reader, options, counters, Events(), CaptureHooks(has_room=lambda: False))
    began = time.monotonic()
    capture.start()
    wait_until(lambda: len(capture._frames) == 8, 5, "frames to queue")
    found = []
    while not capture.is_ended():
        frame = capture.read(0.5)
        found.extend([] if frame is None else [frame.part_id])
    assert found == [f"part-{n}" for n in range(30)]
    assert counters.value(DROPPED) == 0
    assert time.monotonic() - began < 2.0


def test_a_source_that_is_away_is_tried_again() -> None:
    """Errors of the source and of its driver are told, and end with the next frame."""
    events = Events()
    failures: list[Exception] = [
        SourceError(expected="a camera", got="none", where="cam0"),
        RuntimeError("driver"),
    ]
    capture = Capture(FlakyReader(failures), CaptureOptions(retry_limit_s=0.5), Counters(), events)
    capture.start()
    wait_until(lambda: "source.failed" in events.problems(), 5, "the driver's error to be told")
    assert capture.read(5.0) is not None
    assert failures == []
    wait_until(lambda: events.problems() == {}, 5, "the problem to end")
    capture.stop()


def test_the_frame_rate_is_held() -> None:
    """Files come no faster than asked; 11 frames at 50 per second take a fifth of a second."""
    capture = capture_of(
        MemoryReader([frame_of(n) for n in range(61)], ends=True), Counters(), fps_limit=50.0
    )
    began = time.monotonic()
    while not capture.is_ended():
        capture.read(0.5)
    # A limiter may make up for one second it fell behind; it may not be faster than that.
    assert time.monotonic() - began >= 0.15


def test_a_hung_driver_holds_neither_loop_nor_end() -> None:
    """The loop sees no frame, and stopping does not wait for the driver."""
    capture = capture_of(HungReader(), Counters())
    assert capture.read(0.05) is None
    began = time.monotonic()
    capture.stop(0.1)
    assert time.monotonic() - began < 2.0
    assert capture.idle_s() > 0
