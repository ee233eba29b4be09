"""Test that every capture command is answered, carried out once, and survives a restart."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_agent.capture_desk import SAVE_EVERY_FRAMES, CaptureDesk, DeskLinks
from edge_agent.config import AgentConfig
from edge_agent.events import Events
from edge_agent.inbox import Inbox, Recipients
from edge_agent.link.base import Link, LinkHandlers, LinkOptions
from edge_agent.link.memory import MemoryBroker, MemoryLink
from edge_agent.link.mqtt import MqttLink
from edge_agent.mining import Miner, MinerParts
from edge_agent.mining.campaigns import Campaigns
from edge_agent.mining.recent import RecentFrames
from edge_agent.outbox.writer import KeptFrame
from fleet_contracts import topics
from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.messages import CaptureCommand, CommandAnswer
from tests.edge_agent.builders import DEVICE, TASK, boxes, config_of, frame_of
from tests.edge_agent.mining.frames import found, seen
from tests.edge_agent.real_broker import running_broker
from tests.helpers import wait_until


class Clock:
    """Be the time on the wall, moved by the test."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self):
        return utc_now() + self.ahead


class Box:
    """Be the commands' side of a box: desk and miner, answers and kept frames in lists."""

    def __init__(self, config: AgentConfig, clock: Clock, *, remember: int = 4) -> None:
        self.answers: list[CommandAnswer] = []
        self.kept: list[KeptFrame] = []
        self.has_room = True
        self.events = Events()
        parts = MinerParts(campaigns=Campaigns(clock), recent=RecentFrames(remember), events=self.events)
        self.miner = Miner([], parts)
        self.desk = CaptureDesk(config, self.miner, DeskLinks(self._publish, self._keep), self.events)

    def _publish(self, topic: str, payload: bytes) -> bool:
        assert topic == topics.up(TASK, DEVICE, "command-answer")
        self.answers.append(decode(CommandAnswer, payload, where=topic))
        return True

    def _keep(self, frame: KeptFrame) -> bool:
        if self.has_room:
            self.kept.append(frame)
        return self.has_room

    def said(self) -> list[tuple[str, str, int]]:
        """Return id, outcome and frames of every answer, in order."""
        return [(one.command_id, one.outcome, one.frames_kept) for one in self.answers]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    made = config_of(tmp_path)
    made.data_dir.mkdir()
    return made


@pytest.fixture
def box(config: AgentConfig, clock: Clock) -> Box:
    return Box(config, clock)


def capture(name: str = "c-1", *, minutes: float = 5.0, **more: object) -> CaptureCommand:
    return CaptureCommand.model_validate(
        {"task_id": TASK, "device_id": DEVICE, "command_id": name, "asked_by": "plc",
         "expires_at": utc_now() + timedelta(minutes=minutes), **more}
    )  # fmt: skip


def remembered(number: int) -> KeptFrame:
    return KeptFrame(frame_of(number), boxes((0.4, 0)), "0" * 64, 1, "unsure", ())


def test_a_command_is_carried_out_once_and_answered_from_begin_to_end(box: Box) -> None:
    """Heard twice it is begun once; each hearing is answered with how it stands, the end without being asked."""
    box.desk.take(capture(frames=2))
    assert box.miner.reasons_to_keep(seen(found()))
    box.desk.take(capture(frames=2))
    assert box.miner.reasons_to_keep(seen(found()))
    assert box.miner.reasons_to_keep(seen(found())) == ()
    box.desk.look()
    box.desk.look()
    box.desk.take(capture(frames=2))
    assert box.miner.reasons_to_keep(seen(found())) == ()
    assert box.said() == [
        ("c-1", "accepted", 0),
        ("c-1", "accepted", 1),
        ("c-1", "done", 2),
        ("c-1", "done", 2),
    ]
    assert box.events.count("command.heard-again") == 2


def test_a_command_that_runs_out_of_time_says_how_far_it_came(box: Box, clock: Clock) -> None:
    """Without a frame to notice it by, the desk's own look does."""
    box.desk.take(capture(frames=5))
    box.miner.reasons_to_keep(seen(found()))
    clock.ahead = timedelta(minutes=6)
    box.desk.look()
    assert box.said()[-1] == ("c-1", "expired", 1)
    assert box.miner.campaigns.running() == {}


def test_an_expired_command_is_refused_with_both_times(box: Box) -> None:
    """A box whose clock is wrong can be told from a command that came late."""
    box.desk.take(capture(minutes=-1))
    (answer,) = box.answers
    assert answer.outcome == "refused"
    assert "here it is" in answer.detail
    assert box.events.count("command.refused") == 1


def test_junk_is_answered_but_not_echoed_at_its_own_pace(box: Box) -> None:
    """A message without an id is answered once in a while; one that names a command always."""
    for _ in range(5):
        box.desk.refuse("", "not JSON")
    for _ in range(2):
        box.desk.refuse("c-7", "frames: too many")
    assert box.said() == [("", "refused", 0), ("c-7", "refused", 0), ("c-7", "refused", 0)]
    assert box.events.count("command.refused") == 7


def test_frames_from_before_the_command_come_on_top(box: Box) -> None:
    """The newest ones that were not kept anyway, in order; what the outbox has no room for is not counted."""
    for number in range(6):
        box.miner.recent.add(remembered(number))
    kept_already = capture().model_copy()
    box.miner.recent.add(replace(remembered(6), reasons=(Campaigns().start(kept_already)[0].reason(),)))
    box.desk.take(capture(before=3))
    assert [one.frame.part_id for one in box.kept] == ["part-4", "part-5"]
    assert all(one.reasons[0].detail == "asked by plc" for one in box.kept)
    assert box.said() == [("c-1", "accepted", 2)]
    box.miner.reasons_to_keep(seen(found()))
    box.desk.look()
    assert box.said()[-1] == ("c-1", "done", 3)
    box.miner.recent.add(remembered(9))
    box.has_room = False
    box.desk.take(capture("c-2", before=64))
    assert box.answers[-1].detail == "0 of 64 frames from before"


def test_commands_survive_a_restart_of_the_box(box: Box, config: AgentConfig, clock: Clock) -> None:
    """A running one goes on with its count; one that was done is not carried out again."""
    box.desk.take(capture("done"))
    box.desk.take(capture("running", frames=3))
    box.miner.reasons_to_keep(seen(found()))
    box.desk.look(at_the_end=True)
    again = Box(config, clock)
    again.desk.take(capture("done"))
    again.desk.take(capture("running", frames=3))
    assert again.said() == [("done", "done", 1), ("running", "accepted", 1)]
    assert again.miner.campaigns.running() == {"running": 1}


def test_a_killed_box_brings_few_frames_twice(box: Box, config: AgentConfig, clock: Clock) -> None:
    """Progress is stored every so many frames, so a campaign is not begun anew by a power cut."""
    box.desk.take(capture("long", frames=200))
    box.desk.look()
    for _ in range(150):
        assert box.miner.reasons_to_keep(seen(found()))
        box.desk.look()
    again = Box(config, clock)
    assert 150 - SAVE_EVERY_FRAMES < again.miner.campaigns.running()["long"] <= 150


@pytest.mark.parametrize("content", [b"", b"{", b'[{"command": 1}]', b"\xff\xfe"])
def test_a_damaged_state_file_is_told_and_replaced(config: AgentConfig, clock: Clock, content: bytes) -> None:
    """At worst a command is carried out again; the box runs."""
    path = config.data_dir / "captures.json"
    path.write_bytes(content)
    box = Box(config, clock)
    assert box.events.count("command.state-unreadable") == 1
    box.desk.take(capture())
    box.desk.look()
    assert Box(config, clock).miner.campaigns.running() == {"c-1": 0}


def test_a_disk_that_takes_nothing_is_a_problem_and_no_end(config: AgentConfig, clock: Clock) -> None:
    """Commands are carried out all the same, and the problem clears with the disk."""
    box = Box(config, clock)
    config.data_dir.rmdir()
    box.desk.take(capture())
    box.desk.look()
    assert "command.state" in box.events.problems()
    assert box.said() == [("c-1", "accepted", 0)]
    config.data_dir.mkdir()
    box.desk.look(at_the_end=True)
    assert box.events.problems() == {}


def _connected(link: Link, box: Box, config: AgentConfig) -> None:
    """Put the box's inbox and answers on a link."""
    recipients = Recipients(*[lambda _: None] * 3, box.desk.take, box.desk.refuse)
    inbox = Inbox(config, recipients, box.events)
    box.desk._links = DeskLinks(link.publish, box._keep)
    link.start(LinkHandlers(inbox.on_message))


def _dialogue(cloud: Link, at_box: Link, box: Box, config: AgentConfig) -> None:
    """Play one command, a malformed one and one for another box, and wait for every answer."""
    heard: list[CommandAnswer] = []
    cloud.start(
        LinkHandlers(lambda topic, payload: heard.append(decode(CommandAnswer, payload, where=topic)))
    )
    _connected(at_box, box, config)
    wait_until(lambda: cloud.is_connected() and at_box.is_connected(), 20, "both sides to be connected")
    stop = threading.Event()
    thread = threading.Thread(target=box.desk.run, args=(stop,))
    thread.start()
    topic = topics.down(TASK, DEVICE, "capture")
    asked = capture("c-1", frames=1)

    def outcomes() -> set[tuple[str, str]]:
        return {(one.command_id, one.outcome) for one in heard}

    def again_until(payload: bytes, wanted: tuple[str, str]) -> None:
        # As ingest does: a message is a hint and is said again until it is answered.
        def answered() -> bool:
            cloud.publish(topic, payload)
            return wanted in outcomes()

        wait_until(answered, 20, f"the answer {wanted}")

    try:
        again_until(encode(asked), ("c-1", "accepted"))
        again_until(b'{"command_id": "c-2", "frames": "many"}', ("c-2", "refused"))
        again_until(encode(capture("c-3").model_copy(update={"device_id": "box-2"})), ("c-3", "refused"))
        assert box.miner.reasons_to_keep(seen(found()))
        wait_until(lambda: ("c-1", "done") in outcomes(), 20, "the end of the command")
    finally:
        stop.set()
        thread.join(10)
        at_box.stop()
        cloud.stop()


def _options(name: str, pattern: str) -> LinkOptions:
    return LinkOptions(client_id=name, filters=(pattern,))


def test_the_dialogue_in_memory(box: Box, config: AgentConfig) -> None:
    """Accepted, refused and done reach the cloud over the in-memory twin."""
    broker = MemoryBroker()
    cloud = MemoryLink(broker, _options("cloud", topics.all_up()))
    _dialogue(cloud, MemoryLink(broker, _options("box", topics.all_down(TASK, DEVICE))), box, config)


def test_the_dialogue_over_a_real_broker(box: Box, config: AgentConfig, tmp_path: Path) -> None:
    """The same over Mosquitto."""
    with running_broker(tmp_path) as broker:
        events = Events()
        cloud = MqttLink(broker.config(), _options("cloud", topics.all_up()), events)
        at_box = MqttLink(broker.config(), _options("box", topics.all_down(TASK, DEVICE)), events)
        _dialogue(cloud, at_box, box, config)
