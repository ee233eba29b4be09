"""Test the loop: it inspects every frame, swaps between two, and waits for nothing but the camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from detection.detections import Detections
from edge_agent.counters import DROPPED, INSPECTED, LOST, Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner, NothingSeen, UncertainScore
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.parts import FinishedPart
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, MemoryReader
from fleet_contracts.samples import ClassRule, DecisionRules
from tests.edge_agent.builders import boxes, config_of, frame_of, model_of
from tests.helpers import wait_until


class Line:
    """Be a loop with everything around it, without a camera and with an outbox of its own."""

    def __init__(self, folder: Path, mode: str = "every", guard: DiskGuard | None = None) -> None:
        config = config_of(folder)
        self.reader, self.counters, self.events = MemoryReader(), Counters(), Events()
        self.outbox = Outbox(folder / "outbox", guard or DiskGuard(10**9, 0))
        self.writer = OutboxWriter(config, self.outbox, self.counters, self.events)
        self.capture = Capture(
            self.reader,
            CaptureOptions(mode=mode),
            self.counters,
            self.events,  # type: ignore[arg-type]
            CaptureHooks(has_room=self.writer.has_room),
        )
        self.slot = ModelSlot()
        self.decided: list[FinishedPart] = []
        parts = LoopParts(
            self.capture,
            self.slot,
            Miner([UncertainScore(0.2, 0.6), NothingSeen(0.2)]),
            self.writer,
            self.counters,
            self.events,
        )
        options = LoopOptions("cam0", part_idle_s=0.05, poll_s=0.02, on_decision=self.decided.append)
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=InspectionLoop(parts, options).run, args=(self.stop,), daemon=True
        )

    def start(self) -> None:
        self.writer.start()
        self.capture.start()
        self.thread.start()

    def serve(self, model: ServingModel) -> None:
        self.slot.offer(model)

    def inspected(self, count: int) -> None:
        wait_until(lambda: self.counters.value(INSPECTED) >= count, 10, f"{count} inspected frames")

    def end(self) -> None:
        self.stop.set()
        self.thread.join(5)
        self.capture.stop()
        self.writer.stop()
        assert not self.thread.is_alive()


@pytest.fixture
def make_line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(**options: object) -> Line:
        made.append(Line(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for line in made:
        line.end()
        line.outbox.close()


def breaking(after: int) -> Callable[[np.ndarray], Detections]:
    """Answer some frames and then raise for ever."""
    left = [after]

    def answer(canvas: np.ndarray) -> Detections:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("engine broke")
        return boxes((0.9, 0))

    return answer


def test_frames_are_inspected_decided_and_mined(make_line: Callable[..., Line]) -> None:
    """A clear part is decided and not kept; an uncertain and an empty one are kept, each once."""
    line = make_line()
    levels = {10: boxes((0.9, 0)), 80: boxes((0.4, 1)), 160: boxes()}

    def answer(canvas: np.ndarray) -> Detections:
        return levels[min(levels, key=lambda level: abs(level - float(canvas.mean())))]

    line.serve(model_of(1, answer))
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in levels])
    line.inspected(3)
    wait_until(line.writer.is_idle, 5, "the writer")
    assert [part.decision.verdict for part in line.decided] == ["reject", "unsure", "accept"]
    assert line.counters.with_prefix("kept.") == {"uncertain": 1, "nothing-seen": 1}
    assert line.counters.with_prefix("part.") == {"reject": 1, "unsure": 1, "accept": 1}
    assert line.outbox.waiting() == 2
    assert line.counters.value(DROPPED) == 0


def test_without_a_model_frames_wait_and_none_is_skipped(make_line: Callable[..., Line]) -> None:
    """The first release makes the line's backlog inspected, not lost."""
    line = make_line()
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in range(10)])
    wait_until(lambda: len(line.capture._frames) == 2, 5, "frames to wait before the loop")
    assert line.counters.value(INSPECTED) == 0
    line.serve(model_of(1, boxes((0.9, 0))))
    line.inspected(10)
    assert line.slot.swap_report() is None


def test_a_swap_happens_between_two_frames_and_is_measured(make_line: Callable[..., Line]) -> None:
    """Every frame is inspected by exactly one model, none is dropped, and the gap is small."""
    line = make_line()
    line.serve(model_of(1, boxes((0.4, 0))))
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in range(20)])
    line.inspected(5)
    line.serve(model_of(2, boxes((0.5, 0))))
    line.reader.feed(*[frame_of(seed) for seed in range(20, 40)])
    line.inspected(40)
    wait_until(line.writer.is_idle, 5, "the writer")
    report = line.slot.swap_report()
    assert report is not None
    assert (report.from_version, report.to_version, report.frames_dropped) == (1, 2, 0)
    assert 0 <= report.gap_ms < 50
    assert line.counters.value(DROPPED) == 0
    assert line.events.count("loop.swapped") == 1
    assert line.outbox.waiting() == 40
    assert line.slot.good_frames() >= 20


def test_a_swap_happens_on_an_idle_line_too(make_line: Callable[..., Line]) -> None:
    """A line that stands still over night has the new model in the morning."""
    line = make_line()
    line.serve(model_of(1, boxes()))
    line.start()
    wait_until(lambda: line.slot.current() is not None, 5, "the first model")
    line.serve(model_of(2, boxes()))
    wait_until(lambda: line.slot.swap_report() is not None, 5, "the swap")
    report = line.slot.swap_report()
    assert report is not None
    assert report.gap_ms < 50


def test_a_new_model_that_fails_is_replaced_on_the_same_frame(make_line: Callable[..., Line]) -> None:
    """Law 3: no frame is lost to a model that passes its self-test and breaks on the line."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 0))))
    line.start()
    line.reader.feed(frame_of(1))
    line.inspected(1)
    line.serve(model_of(2, breaking(after=2)))
    line.reader.feed(*[frame_of(seed) for seed in range(2, 12)])
    line.inspected(11)
    failure = line.slot.failure()
    assert failure is not None
    assert (failure.release_version, "engine broke" in failure.problem) == (2, True)
    serving = line.slot.current()
    assert serving is not None
    assert serving.release_version == 1
    assert line.counters.value(DROPPED) == 0
    assert line.events.count("loop.model-failed") == 1


def test_a_frame_that_both_models_fail_at_is_laid_to_the_new_one(make_line: Callable[..., Line]) -> None:
    """A rollback is not lost because the frame that caused it was too much for the old model as well."""
    line = make_line()

    def answer(canvas: np.ndarray) -> Detections:
        if canvas.mean() > 200:
            raise RuntimeError("too bright")
        return boxes((0.9, 0))

    line.serve(model_of(1, answer))
    line.start()
    line.reader.feed(frame_of(1))
    line.inspected(1)
    line.serve(model_of(2, answer))
    line.reader.feed(frame_of(250), frame_of(251), frame_of(2))
    line.inspected(4)
    assert line.events.count("loop.model-failed") == 3
    assert line.counters.value(DROPPED) == 2
    failure = line.slot.failure()
    assert failure is not None
    assert failure.release_version == 2


def test_a_failing_model_without_another_makes_parts_unsure_not_accepted(
    make_line: Callable[..., Line],
) -> None:
    """The loop goes on, says what is wrong, and nothing uninspected is accepted."""
    line = make_line()
    line.serve(model_of(1, breaking(after=1)))
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in range(3)])
    line.inspected(3)
    assert [part.decision.verdict for part in line.decided] == ["reject", "unsure", "unsure"]
    assert line.counters.value(DROPPED) == 2
    assert "engine broke" in line.events.problems()["model.failed"]


def test_rules_that_do_not_fit_make_parts_unsure(make_line: Callable[..., Line]) -> None:
    """Law 9: a class without a rule is never silently ignored."""
    line = make_line()
    model = model_of(1, boxes((0.9, 1)))
    rules = DecisionRules(classes=(ClassRule(name="scratch", reject_at=0.5, unsure_at=0.2),))
    line.serve(ServingModel(model.detector, 1, rules, model.model_id))
    line.start()
    line.reader.feed(frame_of(1))
    line.inspected(1)
    assert [part.decision.verdict for part in line.decided] == ["unsure"]
    assert "missing" in line.events.problems()["rules.failed"]
    line.serve(model_of(2, boxes((0.9, 1))))
    line.reader.feed(frame_of(2))
    wait_until(lambda: len(line.decided) == 2, 10, "the next decision")
    assert line.decided[-1].decision.verdict == "reject"
    assert "rules.failed" not in line.events.problems(), "rules that fit end the problem"


def test_a_full_disk_never_stops_the_loop(make_line: Callable[..., Line]) -> None:
    """Every frame is inspected and decided; every example that could not be kept is counted."""
    line = make_line(guard=DiskGuard(10**9, 1, lambda folder: 0))
    line.serve(model_of(1, boxes()))
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in range(25)])
    line.inspected(25)
    wait_until(lambda: line.counters.value(LOST) == 25, 5, "25 counted losses")
    assert len(line.decided) == 25
    assert "outbox.full" in line.events.problems()


def test_a_disk_that_hangs_never_delays_the_loop(make_line: Callable[..., Line]) -> None:
    """With the writer stuck in the system for the whole test, 100 frames are inspected at full speed."""
    stuck = threading.Event()

    def hang(folder: Path) -> int:
        stuck.wait(20)
        return 10**12

    line = make_line(guard=DiskGuard(10**9, 1, hang))
    line.serve(model_of(1, boxes()))
    line.start()
    began = time.monotonic()
    line.reader.feed(*[frame_of(seed) for seed in range(100)])
    line.inspected(100)
    assert time.monotonic() - began < 5
    assert line.counters.value(LOST) >= 100 - 32 - 1
    stuck.set()


def test_in_mode_live_frames_dropped_by_the_line_are_not_blamed_on_the_swap(
    make_line: Callable[..., Line],
) -> None:
    """Only frames that were replaced between the last old and the first new result count for the swap."""
    line = make_line(mode="live")

    def slow(canvas: np.ndarray) -> Detections:
        time.sleep(0.03)
        return boxes((0.9, 0))

    line.serve(model_of(1, slow))
    line.start()
    for seed in range(60):
        line.reader.feed(frame_of(seed))
        time.sleep(0.004)
        if seed == 30:
            line.serve(model_of(2, slow))
    wait_until(lambda: line.slot.swap_report() is not None, 5, "the swap")
    report = line.slot.swap_report()
    assert report is not None
    assert line.counters.value(DROPPED) > 5
    assert report.frames_dropped == 0


def test_the_loop_ends_when_the_source_does(make_line: Callable[..., Line]) -> None:
    """After the last frame the last part is decided and the loop returns."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 0))))
    line.start()
    line.reader.feed(frame_of(1), frame_of(2))
    line.reader.end()
    line.thread.join(5)
    assert not line.thread.is_alive()
    assert line.counters.value(INSPECTED) == 2
