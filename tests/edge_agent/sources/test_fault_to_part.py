"""Test the whole way from a blind camera to a part that is not accepted, through the real loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import CameraConfig
from edge_agent.counters import FAULTY, MISSED, Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner, NothingSeen
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.parts import FinishedPart
from edge_agent.sources import Capture
from edge_agent.sources.choose import SourceFolders, capture_options, choose_reader
from tests.edge_agent.builders import boxes, config_of, jpeg, model_of, put_image
from tests.helpers import wait_until


class Line:
    """Be a loop behind the configured camera; its model never sees a defect."""

    def __init__(self, folder: Path, **camera: object) -> None:
        config = config_of(folder, camera=camera)
        self.counters, self.events = Counters(), Events()
        self.outbox = Outbox(folder / "outbox", DiskGuard(10**9, 0))
        self.writer = OutboxWriter(config, self.outbox, self.counters, self.events)
        made: CameraConfig = config.camera
        reader = choose_reader(made, SourceFolders(folder / "quarantine"), (), self.counters, self.events)
        self.capture = Capture(reader, capture_options(made), self.counters, self.events)
        slot = ModelSlot()
        slot.offer(model_of(1, boxes()))
        self.decided: list[FinishedPart] = []
        parts = LoopParts(
            self.capture, slot, Miner([NothingSeen(0.2)]), self.writer, self.counters, self.events
        )
        loop = InspectionLoop(parts, LoopOptions("cam0", part_idle_s=0.05, on_decision=self.decided.append))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=loop.run, args=(self.stop,), daemon=True)
        self.writer.start()
        self.capture.start()
        self.thread.start()

    def verdicts(self, count: int) -> dict[str, str]:
        """Return the verdicts by part once as many parts are decided."""
        wait_until(lambda: len(self.decided) >= count, 15, f"{count} decided parts")
        return {part.part_id: part.decision.verdict for part in self.decided}

    def end(self) -> None:
        self.stop.set()
        self.thread.join(5)
        self.capture.stop(5.0)
        self.writer.stop()
        self.outbox.close()


@pytest.fixture
def ends() -> Iterator[list[Line]]:
    lines: list[Line] = []
    yield lines
    for line in lines:
        line.end()


def black() -> bytes:
    import cv2

    return cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()


def test_a_black_picture_is_a_fault_and_its_part_unsure(tmp_path: Path, ends: list[Line]) -> None:
    """The model sees no defect on a black picture; the box does not believe it."""
    put_image(tmp_path / "frames", "good.jpg", jpeg(200))
    put_image(tmp_path / "frames", "lens-cap.png", black())
    line = Line(tmp_path, source="folder:frames")
    ends.append(line)
    assert line.verdicts(2) == {"good": "accept", "lens-cap": "unsure"}
    assert line.counters.value(FAULTY) == 1
    assert line.events.count("camera.black") == 1


def test_pulses_become_decided_parts_and_a_hung_camera_makes_them_unsure(
    tmp_path: Path, ends: list[Line]
) -> None:
    """Trigger, child process, checks, loop: each pulse is a part, with its name; none is accepted unseen."""
    pulses = tmp_path / "pulses"
    line = Line(
        tmp_path,
        source="genicam:simulator#SIM-1",
        stall_s=0.5,
        trigger={"kind": "file", "path": str(pulses), "timeout_s": 0.5},
    )
    ends.append(line)
    wait_until(lambda: line.capture._reader._kept is not None, 10, "the camera")  # type: ignore[attr-defined]
    for number in range(3):
        with pulses.open("a") as file:
            file.write(f"board-{number}\n")
        line.verdicts(number + 1)
    assert line.verdicts(3) == {f"board-{number}": "accept" for number in range(3)}
    hung = line.capture._reader._reader._reader.child_pid  # type: ignore[attr-defined]
    os.kill(hung, signal.SIGSTOP)
    with pulses.open("a") as file:
        file.write("board-3\n")
    assert line.verdicts(4)["board-3"] == "unsure"
    assert line.counters.value(MISSED) == 1
    assert line.events.count("camera.trigger-missed") == 1
