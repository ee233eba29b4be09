"""Test that only messages that are whole, ours and in time reach the parts of the box."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.events import Events
from edge_agent.inbox import Inbox, Recipients
from fleet_contracts import topics
from fleet_contracts.base import encode, utc_now
from fleet_contracts.messages import CaptureCommand, CommandAnswer, Grant, Receipt, ReceiptItem
from fleet_contracts.releases import RolloutOrder
from tests.edge_agent.builders import DEVICE, TASK, config_of


class Desk:
    """Collect what gets through."""

    def __init__(self, folder: Path) -> None:
        self.got: list[object] = []
        take = self.got.append
        self.events = Events()
        self.refused: list[tuple[str, str]] = []
        recipients = Recipients(take, take, take, take, lambda name, why: self.refused.append((name, why)))
        self.inbox = Inbox(config_of(folder), recipients, self.events)


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


@pytest.mark.parametrize(
    ("payload", "command_id"),
    [
        (b"not json", ""),
        (b"[1]", ""),
        (b'{"command_id": 7}', ""),
        (b'{"command_id": "c-9", "frames": 0}', "c-9"),
        (b'{"command_id": "\\ud800", "frames": 0}', "?"),
        (encode(capture("box-2", command="c-8")), "c-8"),
        (encode(capture(command="x" * 128)).replace(b'"frames":2', b'"frames":20000'), "x" * 128),
        (b"\xff" * 100_000, ""),
        (b"[" * 100_000, ""),
    ],
)
def test_a_command_on_our_topic_that_cannot_be_used_is_handed_to_be_answered(
    desk: Desk, payload: bytes, command_id: str
) -> None:
    """Whoever sent it hears which command it was, as far as it says, and what is wrong with it."""
    desk.inbox.on_message(topics.down(TASK, DEVICE, "capture"), payload)
    assert desk.got == []
    ((told_id, problem),) = desk.refused
    assert told_id == command_id
    assert problem
    encode(CommandAnswer(task_id=TASK, device_id=DEVICE, command_id=told_id, outcome="refused",
                         detail=problem[:1000], answered_at=utc_now()))  # fmt: skip


def test_what_is_not_on_our_topic_is_not_answered(desk: Desk) -> None:
    """A box answers for itself alone."""
    for topic in (topics.down(TASK, "box-2", "capture"), topics.down(TASK, DEVICE, "order"), "x"):
        desk.inbox.on_message(topic, b"not json")
    assert desk.refused == []
