"""Test that the loop's memory stands still: nothing large per frame, nothing that grows, over swaps too."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from detection.session import Detector
from edge_agent.counters import INSPECTED, Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner, NothingSeen, UncertainScore
from edge_agent.model_slot import ModelSlot, ServingModel
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, Frame
from tests.detection.onnx_models import TinyModel, save
from tests.edge_agent.builders import RULES, WHEN, config_of
from tests.helpers import wait_until

LIMIT_BYTES = 64 * 1024
MODEL = TinyModel(((10, 18, 30, 38, 0.4, 1), (40, 44, 60, 60, 0.3, 0)), head="dfl")
MEBI = 1024 * 1024


class Belt:
    """Bring the same picture again and again, each a part of its own, as fast as the loop takes them."""

    def __init__(self, image: np.ndarray, count: int) -> None:
        self._image = image
        self._count = count
        self._number = 0

    def read(self, wait_s: float) -> Frame | None:
        self._number += 1
        return Frame(self._image, WHEN, f"part-{self._number}", last_in_part=True)

    def is_ended(self) -> bool:
        return self._number >= self._count

    def close(self) -> None:
        pass


class Line:
    """Be a loop with a real engine and a belt of frames."""

    def __init__(
        self, folder: Path, miner: Miner, frames: int, *, overlap: bool = False, side: int = 64
    ) -> None:
        config = config_of(folder)
        self.counters, self.events = Counters(), Events()
        self.outbox = Outbox(folder / "outbox", DiskGuard(10**9, 0))
        self.writer = OutboxWriter(config, self.outbox, self.counters, self.events)
        image = np.full((side * 1080 // 64, side * 1920 // 64, 3), 200, np.uint8)
        self.capture = Capture(
            Belt(image, frames), CaptureOptions(), self.counters, self.events, CaptureHooks()
        )
        self.slot = ModelSlot()
        self.model = save(MODEL, folder / "model.onnx")
        self.versions = 0
        parts = LoopParts(self.capture, self.slot, miner, self.writer, self.counters, self.events)
        self.loop = InspectionLoop(parts, LoopOptions("cam0", poll_s=0.02, overlap=overlap))
        self.frame = Frame(image, WHEN, "part", last_in_part=True)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.loop.run, args=(self.stop,), daemon=True)

    def offer(self) -> None:
        """Load the model again and put it before the loop."""
        detector = Detector.load(self.model)
        detector.warm_up()
        self.versions += 1
        self.slot.offer(ServingModel(detector, self.versions, RULES, detector.model_id))

    def start(self) -> None:
        self.writer.start()
        self.capture.start()
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.capture.stop()
        if self.thread.ident is not None:
            self.thread.join(5)
        self.writer.stop()
        self.outbox.close()
        self.slot.close()


@pytest.fixture
def make_line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    made: list[Line] = []

    def make(*arguments: object, **options: object) -> Line:
        made.append(Line(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for line in made:
        line.end()


def resident_mb() -> float:
    """Return what the process holds in memory, garbage collected."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / MEBI


@pytest.mark.parametrize("rules", [(), (UncertainScore(0.2, 0.6), NothingSeen(0.2))], ids=["off", "on"])
def test_a_turn_of_the_loop_allocates_nothing_large(make_line: Callable[..., Line], rules: tuple) -> None:  # type: ignore[type-arg]
    """From a 1080p frame to the decided part, mining on or off, with less than 64 kB of new memory."""
    line = make_line(Miner(rules), 0, side=64)
    line.offer()
    line.slot.take()
    for _ in range(40):  # also fills the writer's queue, which is not what is measured
        line.loop.inspect(line.frame, at_hand_since=time.monotonic())
    peaks = []
    tracemalloc.start()
    for _ in range(20):
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        line.loop.inspect(line.frame, at_hand_since=time.monotonic())
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert max(peaks) < LIMIT_BYTES
    assert line.counters.value(INSPECTED) == 60


def test_swaps_leave_nothing_behind(make_line: Callable[..., Line]) -> None:
    """Twenty models come and go under load; each is closed and its memory given back."""
    assert _growth_over_swaps(make_line, swaps=20, warm=5) < 0.05


@pytest.mark.soak
def test_a_hundred_swaps_leave_nothing_behind(make_line: Callable[..., Line]) -> None:
    """Resident memory grows by less than 2 % from the tenth to the hundredth swap."""
    assert _growth_over_swaps(make_line, swaps=100, warm=10) < 0.02


def _growth_over_swaps(make_line: Callable[..., Line], *, swaps: int, warm: int) -> float:
    line = make_line(Miner(()), 10**9, overlap=True, side=8)
    line.offer()
    line.start()
    started = 0.0
    for number in range(swaps):
        wait_until(lambda: line.slot.good_frames() >= 20, 20, "frames by the new model")
        line.slot.confirm()
        if number == warm:
            started = resident_mb()
        line.offer()
        wanted = line.versions
        wait_until(lambda: _serving(line) == wanted, 20, "the swap")  # noqa: B023 - waited for at once
    return resident_mb() / started - 1.0


def _serving(line: Line) -> int:
    model = line.slot.current()
    return 0 if model is None else model.release_version


@pytest.mark.soak
@pytest.mark.parametrize("overlap", [False, True], ids=["in-turn", "overlapped"])
def test_a_hundred_thousand_frames_leave_nothing_behind(
    make_line: Callable[..., Line], *, overlap: bool
) -> None:
    """Resident memory grows by less than 2 % from the ten thousandth frame to the hundred thousandth."""
    line = make_line(Miner(()), 100_000, overlap=overlap, side=8)
    line.offer()
    line.start()
    wait_until(lambda: line.counters.value(INSPECTED) >= 10_000, 300, "the first frames")
    started = resident_mb()
    wait_until(lambda: line.counters.value(INSPECTED) >= 100_000, 900, "all frames")
    assert resident_mb() / started - 1.0 < 0.02
