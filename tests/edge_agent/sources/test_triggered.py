"""Test how pulses become parts: which frame each gets, and that none is silently lost."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.counters import MISSED, Counters
from edge_agent.errors import SourceError
from edge_agent.events import Events
from edge_agent.sources import Frame, MemoryReader
from edge_agent.sources.trigger import MemoryTrigger
from edge_agent.sources.triggered import TriggeredReader, TriggerOptions
from tests.edge_agent.builders import WHEN
from tests.helpers import wait_until

IMAGE = np.full((8, 8, 3), 90, np.uint8)
PROBLEM = "capture.trigger-missed"


class Desk:
    """Be a triggered camera whose frames and pulses are given by hand; moments are relative to now."""

    def __init__(self, **options: float) -> None:
        self.camera, self.trigger = MemoryReader(), MemoryTrigger()
        self.counters, self.events = Counters(), Events()
        self.now = time.monotonic()
        self.reader = TriggeredReader(
            self.camera,
            self.trigger,
            TriggerOptions("cam0", **{"timeout_s": 5.0, **options}),  # type: ignore[arg-type]
            self.counters,
            self.events,
        )

    def frame(self, at: float) -> Frame:
        frame = Frame(IMAGE.copy(), WHEN, "unnamed", captured_mono=self.now + at)
        self.camera.feed(frame)
        return frame

    def pulse(self, at: float, part: str = "", flag: str = "") -> None:
        self.trigger.fire(part, flag, self.now + at)

    def read(self, count: int = 1) -> list[Frame]:
        found = [self.reader.read(0.0) for _ in range(count)]
        return [frame for frame in found if frame is not None]


def test_only_the_frame_behind_a_pulse_is_inspected() -> None:
    """Frames nobody asked for are let go; the part has its name, flag, moment and end."""
    desk = Desk()
    desk.frame(0.0)
    assert desk.read() == []
    desk.pulse(0.1, "board 7", "scratch seen")
    desk.frame(0.05)
    assert desk.read() == []
    desk.frame(0.12)
    desk.frame(0.15)
    (frame,) = desk.read(3)
    assert (frame.part_id, frame.flag, frame.last_in_part, frame.fault) == (
        "board-7",
        "scratch seen",
        True,
        "",
    )
    assert frame.captured_mono == desk.now + 0.1
    assert desk.events.problems() == {}


def test_a_pulse_heard_late_takes_the_frame_that_was_kept() -> None:
    """The message may come later than the picture of the moment it tells of; each picture serves once."""
    desk = Desk()
    desk.frame(0.2)
    assert desk.read() == []
    desk.pulse(0.1, "a")
    assert [frame.part_id for frame in desk.read()] == ["a"]
    desk.pulse(0.15, "b")
    assert desk.read() == []
    desk.frame(0.3)
    assert [frame.part_id for frame in desk.read()] == ["b"]


def test_a_pulse_heard_late_takes_the_first_frame_though_another_came_since() -> None:
    """A PLC answers after the picture was taken: a frame later the part may lie elsewhere."""
    desk = Desk()
    first = desk.frame(0.2)
    assert desk.read() == []
    desk.pulse(0.1, "a")
    desk.frame(0.3)
    (frame,) = desk.read()
    assert frame.part_id == "a"
    assert frame.image is first.image
    assert desk.read() == []


def test_a_frame_captured_after_the_time_shows_another_part() -> None:
    """A reader that was held up finds old pulses and a new frame together: no part is judged by it."""
    for per_part in (1, 2):
        desk = Desk(timeout_s=0.5, frames_per_part=per_part)
        desk.pulse(0.0, "a")
        if per_part == 2:
            desk.frame(0.1)
            assert len(desk.read()) == 1
        desk.pulse(0.2, "b")
        desk.frame(1.2)
        found = desk.read(4)
        assert [(f.part_id, f.fault) for f in found] == [("a", "trigger-missed"), ("b", "trigger-missed")]
        assert all(f.last_in_part for f in found)


def test_parts_told_of_are_ended_also_when_the_stream_has_ended() -> None:
    """The last part of a stream that broke off is unsure, not left open."""
    desk = Desk(timeout_s=0.1, frames_per_part=2)
    desk.pulse(0.0, "a")
    desk.frame(0.05)
    desk.camera.end()
    found = desk.read()
    assert not desk.reader.is_ended()
    wait_until(lambda: bool(found.extend(desk.read())) or len(found) == 2, 3, "the blind frame")
    assert [(f.part_id, f.fault) for f in found] == [("a", ""), ("a", "trigger-missed")]
    assert desk.reader.is_ended()


def test_the_delay_waits_until_the_part_is_there() -> None:
    """A sensor ahead of the camera: due is the pulse and the way between them."""
    desk = Desk(delay_s=1.0)
    desk.pulse(0.0, "a")
    desk.frame(0.9)
    assert desk.read() == []
    desk.frame(1.01)
    (frame,) = desk.read()
    assert frame.captured_mono == desk.now + 1.0


def test_a_part_of_several_frames_ends_with_the_last() -> None:
    """Numbers count up, and only the nth frame ends the part."""
    desk = Desk(frames_per_part=3)
    desk.pulse(0.0, "a")
    for at in (0.1, 0.2, 0.3, 0.4):
        desk.frame(at)
    found = desk.read(5)
    assert [(f.part_id, f.frame_in_part, f.last_in_part) for f in found] == [
        ("a", 0, False),
        ("a", 1, False),
        ("a", 2, True),
    ]


def test_a_part_cut_off_by_the_next_is_made_unsure() -> None:
    """Its blind frame ends it before the first frame of the next."""
    desk = Desk(frames_per_part=2)
    desk.pulse(0.0, "a")
    desk.frame(0.1)
    desk.pulse(0.15, "b")
    desk.frame(0.2)
    desk.frame(0.3)
    found = desk.read(6)
    assert [(f.part_id, f.fault, f.last_in_part) for f in found] == [
        ("a", "", False),
        ("a", "trigger-missed", True),
        ("b", "", False),
        ("b", "", True),
    ]
    assert desk.counters.value(MISSED) == 1


def test_of_two_pulses_before_one_frame_the_newer_gets_it() -> None:
    """The frame shows the newer part; the older one is unsure, not judged by a picture of another."""
    desk = Desk()
    desk.pulse(0.0, "a")
    desk.pulse(0.1, "b")
    desk.frame(0.2)
    assert [(f.part_id, f.fault) for f in desk.read(3)] == [("a", "trigger-missed"), ("b", "")]


def test_a_pulse_without_a_frame_is_counted_told_and_decided_blindly() -> None:
    """The part becomes unsure in time, and the problem ends with the next part that is seen."""
    desk = Desk(timeout_s=0.1)
    desk.pulse(0.0, "a", "look")
    found: list[Frame] = []
    wait_until(lambda: bool(found.extend(desk.read()) or found), 3, "the blind frame")
    assert (found[0].part_id, found[0].fault, found[0].flag) == ("a", "trigger-missed", "look")
    assert found[0].last_in_part
    assert desk.counters.value(MISSED) == 1
    assert desk.events.count("camera.trigger-missed") == 1
    assert "part a had 0 frames" in desk.events.problems()[PROBLEM]
    later = time.monotonic() - desk.now
    desk.pulse(later, "b")
    desk.frame(later + 0.01)
    assert [f.part_id for f in desk.read(2)] == ["b"]
    assert desk.events.problems() == {}


class AwayReader(MemoryReader):
    """Be a camera that is away."""

    def read(self, wait_s: float) -> Frame | None:
        raise SourceError(expected="a camera", got="none", where="cam0")


def test_parts_are_told_of_also_while_the_camera_is_away() -> None:
    """A lost camera delays nothing: its parts are unsure in time, and it is tried again with back-off."""
    desk = Desk(timeout_s=0.1)
    reader = TriggeredReader(
        AwayReader(), desk.trigger, TriggerOptions("cam0", timeout_s=0.1), desk.counters, desk.events
    )
    desk.pulse(0.0, "a")
    found: list[Frame] = []

    def look() -> bool:
        frame = reader.read(0.02)
        found.extend([] if frame is None else [frame])
        return bool(found)

    wait_until(look, 3, "the blind frame")
    assert found[0].fault == "trigger-missed"
    assert "camera.away" in desk.events.problems()
    reader.close()
    assert desk.trigger.closed


def test_parts_without_a_name_get_one_each() -> None:
    """Camera, time and a count: no two are alike."""
    desk = Desk()
    names = []
    for at in (0.1, 0.2, 0.3):
        desk.pulse(at)
        desk.frame(at)
        names += [frame.part_id for frame in desk.read()]
    assert len(set(names)) == 3
    assert all(name.startswith("cam0-") for name in names)


EVENTS = st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.2)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(1, 3))
def test_every_pulse_becomes_exactly_one_ended_part(events: list[tuple[bool, float]], per_part: int) -> None:
    """Whatever the order of pulses and frames, each part ends once, with all its frames or blindly."""
    desk = Desk(frames_per_part=per_part, timeout_s=3600.0)
    at, pulses, found = 0.0, 0, []
    for is_pulse, step in events:
        at += step
        if is_pulse:
            desk.pulse(at, f"part-{pulses}")
            pulses += 1
        else:
            desk.frame(at)
        found += desk.read(2)
    found += desk.read(100)
    desk.reader._expire(time.monotonic() + 10_000)
    found += desk.read(100)
    ended = [frame.part_id for frame in found if frame.last_in_part]
    assert ended == [f"part-{n}" for n in range(pulses)]
    for part in ended:
        frames = [frame for frame in found if frame.part_id == part]
        assert [frame.frame_in_part for frame in frames] == list(range(len(frames)))
        assert bool(frames[-1].fault) == (len([f for f in frames if not f.fault]) < per_part)
    assert desk.counters.value(MISSED) == len([frame for frame in found if frame.fault])
