"""Test live sources with real child processes: frames, hangs, kills, and nothing left behind."""

from __future__ import annotations

import gc
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.counters import DROPPED
from edge_agent.errors import SourceError
from edge_agent.sources import Capture, CaptureOptions
from edge_agent.sources.live import PartNamer, plain_words
from tests.edge_agent.builders import WHEN
from tests.edge_agent.sources.live_kit import LiveKit, children_of, gst, is_alive, job_of, live, read_on
from tests.helpers import ROOT, wait_until

CAMERA = ("genicam", "simulator#SIM-1")
"""The cheapest child there is: a drawn camera."""


def test_frames_come_with_the_moment_of_their_capture() -> None:
    """Both clocks are the child's at the capture, and lie between the call and now."""
    with live(*CAMERA) as kit:
        began = time.monotonic()
        frames = [kit.frame() for _ in range(5)]
        assert all(began < frame.captured_mono < time.monotonic() for frame in frames)
        assert [f.captured_mono for f in frames] == sorted(f.captured_mono for f in frames)
        assert len({frame.part_id for frame in frames}) == 5
        assert all(frame.last_in_part and frame.image.shape == (48, 64, 3) for frame in frames)
        assert abs(time.time() - frames[-1].captured_at.timestamp()) < 5


def test_a_held_frame_does_not_change_and_others_go_on() -> None:
    """Frames in use are not written again; when all are in use, frames are dropped, counted, and no stall."""
    with live(*CAMERA, slots=6, stall_s=0.5) as kit:
        held = [kit.frame() for _ in range(6)]
        copies = [frame.image.copy() for frame in held]
        began = time.monotonic()
        while time.monotonic() < began + 1.0:
            assert kit.reader.read(0.05) is None
        assert kit.counters.value(DROPPED) > 10
        assert kit.events.count("camera.stalled") == 0
        assert all((frame.image == copy).all() for frame, copy in zip(held, copies, strict=True))
        held.clear()
        assert kit.frame().captured_mono > time.monotonic() - 1


def test_the_newest_frame_wins_for_a_slow_reader() -> None:
    """Older frames are counted as dropped, and none of them is read later."""
    with live(*CAMERA) as kit:
        moments = [kit.frame().captured_mono]

        def is_slow() -> bool:
            time.sleep(0.2)
            moments.append(kit.frame().captured_mono)
            return kit.counters.value(DROPPED) > 0

        wait_until(is_slow, 10, "a dropped frame")
        moments.append(kit.frame().captured_mono)
        assert moments == sorted(set(moments))


def test_in_mode_every_no_frame_of_a_pipeline_is_skipped() -> None:
    """A reader that is slower than the source slows the source; the end is told once."""
    gst()
    pipeline = "videotestsrc num-buffers=40 pattern=ball ! video/x-raw,width=64,height=48,framerate=30/1"
    with live("gst", pipeline, waits=True, slots=6, options={"newest": False, "follow": False}) as kit:
        parts = set()
        for _ in range(40):
            parts.add(kit.frame().captured_mono)
            time.sleep(0.005)
        assert len(parts) == 40
        with pytest.raises(SourceError, match="end of stream"):
            read_on(kit.reader)
        assert kit.counters.value(DROPPED) == 0
        assert kit.reader.is_ended()


def test_a_child_that_hangs_is_killed_and_replaced_in_time() -> None:
    """A child held by SIGSTOP hangs as in a driver: no timeout of its own helps."""
    with live(*CAMERA, stall_s=0.5) as kit:
        kit.frame()
        hung = kit.reader.child_pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        began = time.monotonic()
        stalled = []
        while not stalled:
            try:
                kit.reader.read(0.05)
            except SourceError as error:
                stalled.append(error)
        assert time.monotonic() - began < 0.5 + 1.0
        assert kit.events.count("camera.stalled") == 1
        assert "camera.stalled" in kit.events.problems()
        assert not is_alive(hung)
        assert kit.frame().captured_mono > began
        assert kit.reader.child_pid != hung
        assert "camera.stalled" not in kit.events.problems()


def test_the_capture_thread_brings_a_hung_camera_back() -> None:
    """Through everything the agent has around it: problem told, frames again, problem over."""
    kit = LiveKit(job_of(*CAMERA, stall_s=0.5))
    capture = Capture(kit.reader, CaptureOptions(mode="live"), kit.counters, kit.events)
    capture.start()
    try:
        wait_until(lambda: capture.read(0.1) is not None, 10, "a frame")
        hung = kit.reader.child_pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: "source.away" in kit.events.problems(), 5, "the hang to be told")
        assert kit.events.count("camera.stalled") == 1
        wait_until(lambda: kit.events.problems() == {}, 10, "the camera to come back")
        assert capture.read(2.0) is not None
    finally:
        capture.stop(5.0)
    wait_until(lambda: kit.reader.child_pid is None, 5, "the child to be closed")


def test_twenty_reconnects_leave_no_descriptor_process_or_memory() -> None:
    """Each lost child takes its socket, pipe and shared memory with it."""
    others = set(children_of(os.getpid()))  # servers that tests before this one share
    with live(*CAMERA) as kit:
        kit.frame()
        gc.collect()
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(20):
            pid = kit.reader.child_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not is_alive(pid), 5, "the child to die")  # type: ignore[misc]
            wait_until(lambda pid=pid: kit.reader.child_pid != pid or _read_on(kit), 5, "the loss")  # type: ignore[misc]
            kit.frame()
        gc.collect()
        assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
        assert Path("/proc/self/maps").read_text().count("whetstone-frames") <= 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 * 1024
        assert len([pid for pid in children_of(os.getpid()) if is_alive(pid) and pid not in others]) <= 1


def _read_on(kit: LiveKit) -> bool:
    """Read until the loss of the child shows."""
    try:
        kit.reader.read(0.02)
    except SourceError:
        return True
    return False


PARENT = """
import sys, time
from tests.edge_agent.sources.live_kit import LiveKit, job_of, snow
kit = LiveKit(job_of("gst", snow()))
kit.frame()
print(kit.reader.child_pid, flush=True)
time.sleep(60)
"""


def test_child_and_pipeline_die_with_a_killed_agent() -> None:
    """SIGKILL gives nobody a chance to clean up; still no process and no shared memory is left."""
    gst()
    agent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    family = [child, *children_of(child)]
    assert len(family) == 2
    assert all(is_alive(pid) for pid in family)
    agent.kill()
    agent.wait(10)
    agent.stdout.close()
    wait_until(lambda: not any(is_alive(pid) for pid in family), 5, "child and pipeline to die")
    assert not [name for name in Path("/dev/shm").iterdir() if "whetstone" in str(name)]


@pytest.mark.soak
def test_a_hundred_thousand_frames_leave_memory_where_it_was() -> None:
    """Through child, ring and views; nothing grows after the first thousands."""
    gst()
    pipeline = "videotestsrc pattern=blue ! video/x-raw,width=320,height=240,framerate=1000/1"
    with live("gst", pipeline, waits=True, slots=48, options={"newest": False}) as kit:
        seen, before = 0, 0
        while seen < 100_000:
            seen += kit.reader.read(1.0) is not None
            before = _resident_kib() if seen == 5_000 else before
        assert _resident_kib() < before * 1.02
        assert kit.counters.value(DROPPED) == 0


def _resident_kib() -> int:
    words = Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()
    return int(words[0])


def test_no_password_stands_in_a_command_line_or_message() -> None:
    """What to open travels by stdin; the error names the address alone."""
    url = "rtsp://box:s3cret@127.0.0.1:9/line"
    with live("url", url, options={"secrets": ("s3cret",)}) as kit:
        kit.reader.read(0.0)
        pid = kit.reader.child_pid
        assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()
        with pytest.raises(SourceError, match="rtsp://127.0.0.1:9/line") as caught:
            read_on(kit.reader)
        assert "s3cret" not in str(caught.value)
        assert "Connection refused" in str(caught.value)


def test_a_camera_that_does_otherwise_than_asked_is_reported() -> None:
    """The simulator sends at most 128 pixels in a row."""
    with live(*CAMERA, width=4000, height=48) as kit:
        assert kit.frame().image.shape == (48, 128, 3)
        assert kit.events.problems() == {"capture.otherwise": "Width: asked 4000, got 128"}


def test_a_program_that_cannot_be_started_is_an_error_that_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No process, no frame; the next read tries again."""
    kit = LiveKit(job_of(*CAMERA))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    for _ in range(2):
        with pytest.raises(SourceError, match="a process for the camera"):
            kit.reader.read(0.1)


def test_parts_of_several_frames_are_named_once() -> None:
    """Every n frames share a name, and the last says so."""
    namer = PartNamer("cam 0", 2)
    found = [namer.next(WHEN) for _ in range(3)]
    assert found == [
        ("cam-0-20261121T080000000", 0, False),
        ("cam-0-20261121T080000000", 1, True),
        ("cam-0-20261121T080000000", 0, False),
    ]


def test_a_camera_that_was_lost_begins_a_new_part() -> None:
    """What it sees afterwards is not the object it saw before."""
    with live(*CAMERA, options={"frames_per_part": 200}) as kit:
        first = kit.frame()
        assert kit.reader.child_pid is not None
        os.kill(kit.reader.child_pid, signal.SIGKILL)
        with pytest.raises(SourceError):
            read_on(kit.reader)
        # Frames that were on their way are still given; the child that follows opens a part of its own.
        again = kit.frame()
        assert again.part_id != first.part_id
        assert again.frame_in_part == 0


def test_a_drivers_words_are_the_same_each_time() -> None:
    """Addresses and times would make every try a new problem in the log."""
    text = "[rtsp @ 0x55f0] method failed: 401\n[tcp @ 0x5]  refused\n[ WARN:0@0.02] VIDEOIO(FFMPEG): backend"
    assert plain_words(text) == "method failed: 401; refused"
    assert plain_words("") == ""
