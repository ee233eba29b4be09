"""Test that only messages that are whole, ours and in time reach the parts of the box."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.events import Events
from edge_agent.inbox import CaptureDesk, Inbox, Recipients
from edge_agent.mining import Miner, SeenFrame
from fleet_contracts import topics
from fleet_contracts.base import encode, utc_now
from fleet_contracts.messages import CaptureCommand, Grant, Receipt, ReceiptItem
from fleet_contracts.releases import RolloutOrder
from tests.edge_agent.builders import DEVICE, TASK, boxes, config_of


class Desk:
    """Collect what gets through."""

    def __init__(self, folder: Path) -> None:
        self.got: list[object] = []
        take = self.got.append
        self.events = Events()
        self.inbox = Inbox(config_of(folder), Recipients(take, take, take, take), self.events)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def capture(
    device: str = DEVICE, *, command: str = "c-1", seconds: float = 60.0, frames: int = 2
) -> CaptureCommand:
    return CaptureCommand(
        task_id=TASK,
        device_id=device,
        command_id=command,
        frames=frames,
        asked_by="plc",
        expires_at=utc_now() + timedelta(seconds=seconds),
    )


def test_every_kind_reaches_its_part(desk: Desk) -> None:
    """Grant, receipt, order and capture are told apart by their topic."""
    sent = {
        "grant": Grant(
            task_id=TASK,
            device_id=DEVICE,
            request_id="r" * 8,
            grant_id="0" * 32,
            uploads=(),
            expires_at=utc_now(),
        ),
        "receipt": Receipt(
            task_id=TASK, device_id=DEVICE, items=(ReceiptItem(sample_id="a" * 64, outcome="stored"),)
        ),
        "order": RolloutOrder(
            task_id=TASK,
            device_id=DEVICE,
            rollout_id="r1",
            channel="stable",
            release_version=2,
            issued_at=utc_now(),
        ),
        "capture": capture(),
    }
    for kind, document in sent.items():
        desk.inbox.on_message(topics.down(TASK, DEVICE, kind), encode(document))  # type: ignore[arg-type]
    assert desk.got == list(sent.values())


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (topics.down(TASK, DEVICE, "capture"), b"not json"),
        (topics.down(TASK, DEVICE, "order"), b"{}"),
        (topics.down(TASK, DEVICE, "capture"), encode(capture("box-2"))),
        (topics.up(TASK, DEVICE, "report"), b"{}"),
        ("somewhere/else", b"{}"),
    ],
)
def test_what_is_broken_or_foreign_is_counted_and_dropped(desk: Desk, topic: str, payload: bytes) -> None:
    """Nothing from the broker can hurt the box."""
    desk.inbox.on_message(topic, payload)
    assert desk.got == []
    assert desk.events.count("inbox.refused") == 1


def test_a_capture_is_carried_out_once_and_in_time() -> None:
    """A command heard twice keeps no frame twice; an expired one keeps none."""
    miner = Miner([])
    desk = CaptureDesk(miner, Events())
    seen = SeenFrame(boxes((0.9, 0)), "cam0", "part-1", 0)
    desk.take(capture(command="late", seconds=-1))
    assert miner.reasons_to_keep(seen) == ()
    for _ in range(2):
        desk.take(capture(command="c-2", frames=1))
    reasons = miner.reasons_to_keep(seen)
    assert [(reason.rule, reason.detail) for reason in reasons] == [("capture", "asked by plc")]
    desk.take(capture(command="c-2", frames=1))
    assert miner.reasons_to_keep(seen) == ()
