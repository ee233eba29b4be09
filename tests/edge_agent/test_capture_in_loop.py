"""Test that a command counts only the frames that reached the outbox's queue."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

from edge_agent.counters import LOST, Counters
from edge_agent.events import Events
from edge_agent.loop import InspectionLoop, LoopOptions, LoopParts
from edge_agent.mining import Miner
from edge_agent.model_slot import ModelSlot
from edge_agent.outbox import DiskGuard, Outbox, OutboxWriter
from edge_agent.sources import Capture, CaptureOptions, MemoryReader
from fleet_contracts.base import utc_now
from fleet_contracts.messages import CaptureCommand
from tests.edge_agent.builders import DEVICE, TASK, boxes, config_of, frame_of, model_of
from tests.helpers import wait_until


def test_frames_lost_before_a_slow_disk_are_not_counted_as_brought(tmp_path: Path) -> None:
    """Two of five fit into the queue: the command stays open for the rest and gets them once there is room."""
    config = config_of(tmp_path, outbox={"queue_frames": 2})
    counters, events, miner = Counters(), Events(), Miner([])
    outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
    writer = OutboxWriter(config, outbox, counters, events)
    source = Capture(MemoryReader(), CaptureOptions(), counters, events)
    slot = ModelSlot()
    loop = InspectionLoop(LoopParts(source, slot, miner, writer, counters, events), LoopOptions("cam0"))
    slot.offer(model_of(1, boxes((0.9, 0))))
    slot.take()
    until = utc_now() + timedelta(minutes=5)
    miner.campaigns.start(
        CaptureCommand(
            task_id=TASK, device_id=DEVICE, command_id="c-1", frames=4, expires_at=until, asked_by="ana"
        )
    )
    for number in range(5):
        loop.inspect(frame_of(number), at_hand_since=time.monotonic())
    assert counters.value(LOST) == 3
    assert miner.campaigns.running() == {"c-1": 2}
    writer.start()
    for number in range(5, 7):
        wait_until(lambda: writer.queued() < 2, 10, "room in the queue")
        loop.inspect(frame_of(number), at_hand_since=time.monotonic())
    (ended,) = miner.campaigns.take_ended()
    assert (ended.outcome, ended.kept) == ("done", 4)
    wait_until(lambda: outbox.waiting() == 4, 10, "four examples")
    writer.stop()
    outbox.close()
