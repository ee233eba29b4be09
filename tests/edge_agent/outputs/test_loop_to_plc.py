"""From a frame to a coil: the inspection loop with a reader in memory and a real Modbus TCP server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.care.heartbeat import Heartbeat
from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.outputs.sorter import LoopSigns, Sorter, build_sorter
from edge_agent.sources import Capture, CaptureHooks, CaptureOptions, MemoryReader
from edge_agent.sources.base import Frame
from fleet_contracts.base import utc_now
from tests.edge_agent.builders import boxes, config_of, model_of, picture
from tests.edge_agent.outputs.outputs_kit import QUICK, outputs_of
from tests.edge_agent.outputs.plc import Plc, running_plc
from tests.helpers import wait_until

TRAVEL_S = 0.25


class Factory:
    """Be a box with one camera in memory and one ejector on a PLC."""

    def __init__(self, folder: Path, plc: Plc) -> None:
        outputs = outputs_of(
            {"kind": "modbus", "name": "ejector", "host": "127.0.0.1", "port": plc.port, "pulse_ms": 20,
             "travel_ms": TRAVEL_S * 1000, "coils": {"reject": 0}, "registers": {"parts": 5}, **QUICK},
        )  # fmt: skip
        config = config_of(folder).model_copy(update={"outputs": outputs})
        self.counters, self.events, heart = Counters(), Events(), Heartbeat()
        self.reader, self.slot = MemoryReader(), ModelSlot()
        self.writer = OutboxWriter(
            config, Outbox(folder / "outbox", DiskGuard(10**9, 0)), self.counters, self.events
        )
        self.capture = Capture(
            self.reader, CaptureOptions(), self.counters, self.events, CaptureHooks(has_room=lambda: True)
        )
        signs = LoopSigns(heart, lambda: self.slot.current() is not None)
        self.sorter: Sorter = build_sorter(config, self.counters, self.events, signs)
        parts = LoopParts(
            self.capture, self.slot, Miner([]), self.writer, self.counters, self.events, heart=heart
        )
        options = LoopOptions("cam0", part_idle_s=0.05, poll_s=0.02, on_decision=self.sorter.on_decision)
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=InspectionLoop(parts, options).run, args=(self.stop,), daemon=True
        )
        self.slot.offer(model_of(1, lambda frame: boxes((0.9, 0)) if frame.mean() > 100 else boxes()))

    def start(self) -> None:
        for part in (self.writer, self.sorter, self.capture, self.thread):
            part.start()  # type: ignore[attr-defined]
        wait_until(lambda: self.sorter.status()[0].state == "healthy", 10, "the ejector to be trusted")

    def show(self, part_id: str, *, bad: bool) -> Frame:
        """Put a part before the camera."""
        frame = Frame(picture(200 if bad else 10), utc_now(), part_id, last_in_part=True)
        self.reader.feed(frame)
        return frame

    def end(self) -> None:
        self.stop.set()
        self.thread.join(5)
        self.capture.stop()
        self.sorter.stop(2)
        self.writer.stop()


@pytest.fixture
def plc() -> Iterator[Plc]:
    with running_plc("modbus") as real:
        yield real


@pytest.fixture
def factory(tmp_path: Path, plc: Plc) -> Iterator[Factory]:
    made = Factory(tmp_path, plc)
    made.start()
    yield made
    made.end()


def test_a_bad_part_is_ejected_when_it_has_travelled(factory: Factory, plc: Plc) -> None:
    """Every bad part and no good one reaches the coil, each at its capture plus the travel time."""
    wait_until(lambda: plc.shows("coil 0") == 0, 5, "the ejector at rest")
    plc.writes.clear()
    bad = []
    for number in range(10):
        factory.show(f"G{number}", bad=False)
        bad.append(factory.show(f"B{number}", bad=True))
        time.sleep(0.05)
    wait_until(lambda: factory.counters.value("output.ejector.fired") == 10, 10, "ten rejects")
    wait_until(lambda: plc.shows("register 5") == 20, 10, "the counter of all parts")
    fired = plc.of("coil 0")
    assert len(fired) == 10
    late = [at - (frame.captured_mono + TRAVEL_S) for at, frame in zip(fired, bad, strict=True)]
    assert min(late) >= 0.0
    assert max(late) < 5.0
    assert factory.counters.value("output.ejector.missed") == 0


def test_a_dead_plc_does_not_slow_the_loop(factory: Factory, plc: Plc) -> None:
    """With the PLC frozen the loop decides part after part as before."""
    plc.freeze()
    began = time.monotonic()
    for number in range(100):
        factory.show(f"B{number}", bad=True)
    wait_until(lambda: factory.counters.value("part.reject") == 100, 10, "a hundred decisions")
    assert time.monotonic() - began < 5.0
    wait_until(lambda: "output.failsafe.ejector" in factory.events.problems(), 5, "the fail-safe state")
    plc.wake()
