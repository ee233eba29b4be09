"""Test the loop: it inspects every frame, swaps between two, and waits for nothing but the camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detection.detections import Detections
from edge_agent.counters import DROPPED, INSPECTED, LOST, Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner, NothingSeen, UncertainScore
from edge_agent.mining.seen import MiningRule, SeenFrame
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.parts import FinishedPart
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, MemoryReader
from edge_agent.sources.base import Frame
from fleet_contracts.samples import ClassRule, DecisionRules, Reason
from tests.edge_agent.builders import boxes, config_of, frame_of, model_of
from tests.helpers import wait_until


class Watching:
    """Be a mining rule that keeps nothing and remembers what it was shown."""

    def __init__(self, seen: list[SeenFrame]) -> None:
        self._seen = seen

    def check(self, seen: SeenFrame) -> Reason | None:
        self._seen.append(seen)
        return None


class Line:
    """Be a loop with everything around it, without a camera and with an outbox of its own."""

    def __init__(
        self,
        folder: Path,
        mode: str = "every",
        guard: DiskGuard | None = None,
        *,
        overlap: bool = False,
        rules: tuple[MiningRule, ...] = (),
    ) -> None:
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
        self.seen: list[SeenFrame] = []
        parts = LoopParts(
            self.capture,
            self.slot,
            Miner([UncertainScore(0.2, 0.6), NothingSeen(0.2), Watching(self.seen), *rules]),
            self.writer,
            self.counters,
            self.events,
        )
        self.heart, self.times = parts.heart, parts.times
        options = LoopOptions(
            "cam0", part_idle_s=0.05, poll_s=0.02, on_decision=self.decided.append, overlap=overlap
        )
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
    line.reader.feed(*[frame_of(seed, token=str(seed)) for seed in levels])
    line.inspected(3)
    wait_until(line.writer.is_idle, 5, "the writer")
    assert [part.decision.verdict for part in line.decided] == ["reject", "unsure", "accept"]
    assert line.counters.with_prefix("kept.") == {"uncertain": 1, "nothing-seen": 1}
    assert line.counters.with_prefix("part.") == {"reject": 1, "unsure": 1, "accept": 1}
    assert line.outbox.waiting() == 2
    assert line.counters.value(DROPPED) == 0


class Failing:
    """Be a mining rule that fails a few times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def check(self, seen: SeenFrame) -> Reason | None:
        self.left -= 1
        if self.left >= 0:
            raise ValueError("odd features")
        return None


def test_mining_that_fails_costs_examples_and_no_part(make_line: Callable[..., Line]) -> None:
    """The line goes on, a restart does not meet the same frame again, and the box says what is wrong."""
    line = make_line(rules=(Failing(2),))
    line.serve(model_of(1, boxes()))
    line.start()
    line.reader.feed(frame_of(1, part="a"), frame_of(2, part="b"))
    line.inspected(2)
    assert [part.decision.verdict for part in line.decided] == ["accept", "accept"]
    assert "odd features" in line.events.problems()["mining.failed"]
    assert line.events.count("loop.mining-failed") == 2
    line.reader.feed(frame_of(3, part="c"))
    line.inspected(3)
    assert line.events.problems() == {}


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
    line.reader.feed(*[frame_of(seed, token=str(seed)) for seed in range(20)])
    line.inspected(5)
    line.serve(model_of(2, boxes((0.5, 0))))
    line.reader.feed(*[frame_of(seed, token=str(seed)) for seed in range(20, 40)])
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


def test_a_part_is_decided_in_the_turn_of_its_last_frame(make_line: Callable[..., Line]) -> None:
    """A source that knows the part is complete gets its decision at once, with the first frame's time."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 0))))
    line.start()
    first = frame_of(1, part="p", number=0)
    last = replace(frame_of(2, part="p", number=1), last_in_part=True)
    line.reader.feed(first, last)
    wait_until(lambda: len(line.decided) == 1, 5, "the decision")
    part = line.decided[0]
    assert (part.part_id, part.frames, part.camera) == ("p", 2, "cam0")
    assert (part.captured_mono, part.captured_at) == (first.captured_mono, first.captured_at)


def test_a_picture_that_shows_nothing_is_not_accepted(make_line: Callable[..., Line]) -> None:
    """A frame the source calls black or frozen is never taken for a good part, nor shown to the model."""
    line = make_line()
    line.serve(model_of(1, boxes()))
    line.start()
    line.reader.feed(replace(frame_of(1), fault="black"), frame_of(2))
    line.inspected(2)
    assert [part.decision.verdict for part in line.decided] == ["unsure", "accept"]
    assert [seen.part_id for seen in line.seen] == ["part-2"]


def test_rules_are_shown_all_there_is_to_a_frame(make_line: Callable[..., Line]) -> None:
    """Mining looks at picture, size, class names and the operator's flag."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 1))))
    line.start()
    frame = replace(frame_of(7, number=3), flag="operator")
    line.reader.feed(frame)
    line.inspected(1)
    seen = line.seen[0]
    assert seen.image is frame.image
    assert (seen.frame_size, seen.flag, seen.frame_in_part) == ((64, 64), "operator", 3)
    assert seen.class_names == ("scratch", "missing")


def test_an_idle_line_goes_on_beating(make_line: Callable[..., Line]) -> None:
    """Without a frame, and even without a first model, the loop turns many times a second."""
    line = make_line()
    line.start()
    wait_until(lambda: line.heart.beats > 10, 5, "beats without a model")
    line.serve(model_of(1, boxes()))
    wait_until(lambda: line.slot.current() is not None, 5, "the first model")
    beats = line.heart.beats
    wait_until(lambda: line.heart.beats > beats + 10, 5, "beats without a frame")
    assert line.heart.engine_since_mono == 0.0


def test_a_hung_engine_is_told_from_an_idle_line(make_line: Callable[..., Line]) -> None:
    """While the engine is at a frame, the heart says since when."""
    line = make_line()
    entered, go_on = threading.Event(), threading.Event()

    def hang(canvas: np.ndarray) -> Detections:
        entered.set()
        go_on.wait(10)
        return boxes()

    line.serve(model_of(1, hang))
    line.start()
    before = time.monotonic()
    line.reader.feed(frame_of(1))
    assert entered.wait(5)
    assert line.heart.engine_since_mono >= before
    go_on.set()
    line.inspected(1)
    assert line.heart.engine_since_mono == 0.0


def test_every_stage_of_a_frame_is_timed(make_line: Callable[..., Line]) -> None:
    """What a frame's time was spent on adds up to no more than its turn."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 0))))
    line.start()
    line.reader.feed(*[frame_of(seed) for seed in range(20)])
    line.inspected(20)
    wait_until(lambda: line.times.count == 20, 5, "20 timed frames")
    parts = [
        line.times.quantiles(stage, (0.5,))[0] for stage in ("prepare", "engine", "decode", "decide", "mine")
    ]
    assert all(ms > 0.0 for ms in parts)
    assert sum(parts) < 2.0 * line.times.quantiles("total", (0.5,))[0]
    assert line.times.quantiles("wait", (0.0, 1.0))[0] >= 0.0


def test_frames_that_overlap_are_decided_as_frames_in_turn(make_line: Callable[..., Line]) -> None:
    """A head start changes no verdict, loses no frame and survives a swap in the middle."""
    levels = {40: boxes((0.9, 0)), 120: boxes((0.4, 1)), 220: boxes()}

    def answer(canvas: np.ndarray) -> Detections:
        time.sleep(0.002)
        return levels[min(levels, key=lambda level: abs(level - float(canvas.mean())))]

    line = make_line(overlap=True)
    line.serve(model_of(1, answer))
    line.start()
    seeds = [40, 120, 220] * 40
    frames = [replace(frame_of(seed, part=f"part-{n}"), last_in_part=True) for n, seed in enumerate(seeds)]
    line.reader.feed(*frames[:60])
    line.inspected(30)
    line.serve(model_of(2, answer))
    line.reader.feed(*frames[60:])
    line.inspected(120)
    assert [part.decision.verdict for part in line.decided] == ["reject", "unsure", "accept"] * 40
    assert [part.part_id for part in line.decided] == [frame.part_id for frame in frames]
    assert line.counters.value(DROPPED) == 0
    assert line.slot.swap_report() is not None


def test_a_long_part_costs_each_frame_the_same(make_line: Callable[..., Line]) -> None:
    """Deciding on the two hundredth frame of a part takes no longer than on its tenth."""
    line = make_line()
    line.serve(model_of(1, boxes((0.9, 0), (0.2, 1))))
    line.start()
    line.reader.feed(*[frame_of(seed, part="long", number=seed) for seed in range(200)])
    wait_until(lambda: line.times.count >= 200, 20, "all frames of the part")
    early = np.median(line.times._rings["decide"][5:50])
    late = np.median(line.times._rings["decide"][150:200])
    assert late < 4.0 * early


def test_a_source_that_hangs_in_one_call_is_told_until_it_comes_back(tmp_path: Path) -> None:
    """A network share that hangs holds the capture thread, which cannot say so itself."""
    released = threading.Event()

    class HungOnce(MemoryReader):
        def read(self, wait_s: float) -> Frame | None:
            released.wait(30)
            return super().read(wait_s)

    counters, events = Counters(), Events()
    reader = HungOnce()
    capture = Capture(reader, CaptureOptions(), counters, events)
    slot, stop = ModelSlot(), threading.Event()
    slot.offer(model_of(1, boxes()))
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer = OutboxWriter(config_of(tmp_path), outbox, counters, events)
    loop = InspectionLoop(
        LoopParts(capture, slot, Miner(()), writer, counters, events), LoopOptions("cam0", source_hung_s=0.2)
    )
    thread = threading.Thread(target=loop.run, args=(stop,))
    capture.start()
    thread.start()
    try:
        wait_until(lambda: "source.hung" in events.problems(), 10, "the hang to be told")
        reader.feed(frame_of(10))
        released.set()
        wait_until(lambda: "source.hung" not in events.problems(), 10, "the hang to be over")
    finally:
        released.set()
        stop.set()
        thread.join(10)
        capture.stop()
        outbox.close()
