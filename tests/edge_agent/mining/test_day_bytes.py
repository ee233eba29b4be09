"""Test that a box which is restarted again and again keeps to its daily bytes, with the real outbox and writer."""

from __future__ import annotations

from pathlib import Path

from edge_agent.counters import Counters
from edge_agent.events import Events
from edge_agent.mining import SeenFrame, miner_of
from edge_agent.outbox import DiskGuard, KeptFrame, Outbox, OutboxWriter
from tests.edge_agent.builders import CLASSES, boxes, config_of, frame_of, jpeg
from tests.helpers import wait_until

LIMIT_MB = 0.03


def test_a_restart_loop_does_not_exceed_the_days_bytes(tmp_path: Path) -> None:
    """Ten starts, each with frames enough for the day: together they keep the day's bytes and one frame."""
    config = config_of(tmp_path, mining={"max_mb_per_day": LIMIT_MB}, outbox={"queue_frames": 1})
    total = refused = 0
    for start in range(10):
        outbox = Outbox(tmp_path / "outbox", DiskGuard(10**9, 0))
        counters = Counters(outbox.stored_counts())
        miner = miner_of(config.mining, counters)
        writer = OutboxWriter(config, outbox, counters, Events())
        writer.start()
        for number in range(20):
            frame = frame_of(start * 20 + number)
            seen = SeenFrame(boxes(), "cam0", frame.part_id, 0, image=frame.image, class_names=CLASSES)
            reasons = miner.reasons_to_keep(seen)
            if reasons:
                assert writer.keep(KeptFrame(frame, boxes(), "a" * 64, 1, "accept", reasons))
                total += len(jpeg(start * 20 + number))
                wait_until(writer.is_idle, 10, "the frame to be stored")
        writer.stop()
        outbox.close()
        refused += miner.outcomes["over-bytes"]
    limit = LIMIT_MB * 1e6
    assert limit - 3000 <= total <= limit + 3000
    assert refused > 100
