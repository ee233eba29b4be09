"""Test that a capture command reaches its box until an answer ends it, and that answers are kept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import decode, encode, topics, utc_now
from fleet_contracts.errors import ForeignDocument
from fleet_contracts.messages import CaptureCommand, CommandAnswer
from flows.captures import CaptureWish, ask_for_frames, captures_of
from flows.context import Context
from flows.database.schema import CaptureRow
from flows.errors import CaptureRefused, UnknownTask
from flows.events import MemoryEvents
from flows.ingest.captures import AGAIN_SECONDS, OVER_SECONDS, OWED, CaptureDuty
from flows.ingest.desk import Desk
from flows.ingest.duties import standard_duties
from flows.ingest.link import MemoryLink, MqttLink
from flows.overview import task_view
from flows.settings import BrokerSettings
from tests.flows.ingest.brokers import MqttBox, mosquitto
from tests.flows.ingest.test_service import serving
from tests.flows.kit import DEVICE, TASK
from tests.helpers import wait_until


def ask(ctx: Context, **changes: object) -> CaptureCommand:
    """Ask the one known box for frames."""
    wish = CaptureWish(**{"devices": (DEVICE,), "frames": 20, **changes})  # type: ignore[arg-type]
    return ask_for_frames(ctx, TASK, wish, by="ana")[0]


def answer(command_id: str, outcome: str, kept: int = 0, device: str = DEVICE) -> CommandAnswer:
    """Say what a box says."""
    return CommandAnswer.model_validate(
        {"task_id": TASK, "device_id": device, "command_id": command_id, "outcome": outcome, "frames_kept": kept,
         "answered_at": utc_now(), "detail": "as told"}
    )  # fmt: skip


def sent(link: MemoryLink) -> list[CaptureCommand]:
    """Return the commands that were sent to the box, in order."""
    topic = topics.down(TASK, DEVICE, "capture")
    return [decode(CaptureCommand, payload, where=heard) for heard, payload in link.sent if heard == topic]


def hear(desk: Desk, said: CommandAnswer, device: str = DEVICE) -> None:
    """Let the desk hear an answer."""
    desk.handle(topics.up(TASK, device, "command-answer"), encode(said))


class Rounds:
    """Run the duty on a clock the test moves."""

    def __init__(self, ctx: Context) -> None:
        self.now = 100.0
        self.link = MemoryLink()
        self.ctx = ctx
        self._duty = CaptureDuty(self.link, lambda: self.now)

    def run(self, seconds: float = 0.0) -> int:
        """Let time pass and do a round; return how many commands were sent so far."""
        self.now += seconds
        self._duty(self.ctx)
        return len(sent(self.link))


def test_a_command_is_sent_again_until_an_answer_ends_it(ctx: Context) -> None:
    """At once, then from time to time, also while it runs; after `done` never again (law 1)."""
    command, rounds, desk = (
        ask(ctx, class_name="scratch", low=0.3, high=0.6),
        Rounds(ctx),
        Desk(ctx, MemoryLink()),
    )
    assert rounds.run() == 1
    assert rounds.run(2.0) == 1
    assert rounds.run(AGAIN_SECONDS) == 2
    hear(desk, answer(command.command_id, "accepted", 3))
    assert rounds.run(AGAIN_SECONDS) == 3
    assert sent(rounds.link) == [command] * 3
    hear(desk, answer(command.command_id, "done", 20))
    assert rounds.run(AGAIN_SECONDS) == 3
    (view,) = captures_of(ctx, TASK)
    assert (view.words, view.frames_kept, view.detail) == ("done", 20, "as told")
    # What was said before the end may arrive after it.
    hear(desk, answer(command.command_id, "accepted", 7))
    assert captures_of(ctx, TASK)[0].outcome == "done"
    assert (desk.counts["capture.accepted"], desk.counts["capture.ended"], desk.counts["capture.late"]) == (
        1,
        1,
        1,
    )


def test_a_restart_of_ingest_sends_open_commands_again(ctx: Context) -> None:
    """What was sent is remembered by the process alone; the box hears a command twice and does it once."""
    ask(ctx)
    assert Rounds(ctx).run() == 1
    assert Rounds(ctx).run() == 1


def test_commands_whose_time_is_over_are_sent_seldom_and_for_a_week(ctx: Context) -> None:
    """A box that was offline at the end still tells how far it came; until then it is shown what is known."""
    silent, begun = ask(ctx), ask(ctx)
    desk = Desk(ctx, MemoryLink())
    hear(desk, answer(begun.command_id, "accepted", 4))
    over(ctx, timedelta(seconds=1), silent, begun)
    rounds = Rounds(ctx)
    assert [rounds.run(), rounds.run(AGAIN_SECONDS), rounds.run(OVER_SECONDS)] == [2, 2, 4]
    assert {view.command.command_id: view.words for view in captures_of(ctx, TASK)} == {
        silent.command_id: "no answer",
        begun.command_id: "expired",
    }
    hear(desk, answer(begun.command_id, "expired", 17))
    assert {view.frames_kept for view in captures_of(ctx, TASK)} == {0, 17}
    assert rounds.run(OVER_SECONDS) == 5
    over(ctx, OWED, silent)
    assert rounds.run(OVER_SECONDS) == 5


def over(ctx: Context, ago: timedelta, *commands: CaptureCommand) -> None:
    """Let the time of commands have been over for so long."""
    with ctx.database.session() as session:
        for command in commands:
            row = session.get_one(CaptureRow, command.command_id)
            row.expires_at = utc_now() - ago
            row.command = {**row.command, "expires_at": row.expires_at.isoformat()}


def test_nothing_counts_as_sent_while_the_broker_is_away(ctx: Context) -> None:
    """The command goes out when the link is back, not half a minute later."""
    ask(ctx)
    rounds = Rounds(ctx)
    online = [False]
    rounds.link.is_connected = lambda: online[0]  # type: ignore[method-assign]
    assert rounds.run() == 0
    online[0] = True
    assert rounds.run(1.0) == 1


def test_answers_of_others_and_for_nothing_change_nothing(ctx: Context) -> None:
    """A box cannot end another's command; an answer without an id, to junk, is counted."""
    command, desk = ask(ctx), Desk(ctx, MemoryLink())
    hear(desk, answer(command.command_id, "done", device="box-2"), device="box-2")
    hear(desk, answer("", "refused"))
    assert desk.counts["capture.unknown"] == 2
    with pytest.raises(ForeignDocument):
        hear(desk, answer(command.command_id, "done", device="box-2"))
    assert captures_of(ctx, TASK)[0].outcome == "waiting"


def test_a_campaign_asks_several_boxes_at_once(ctx: Context) -> None:
    """Each box gets a command of its own under one name; status sums them up."""
    from tests.flows.kit import with_task

    ctx = with_task(ctx, devices=(DEVICE, "box-2"))
    wish = CaptureWish((DEVICE, "box-2"), 200, campaign="night")
    one, other = ask_for_frames(ctx, TASK, wish, by="ana")
    assert (one.device_id, other.device_id) == (DEVICE, "box-2")
    assert one.command_id != other.command_id
    assert {one.campaign, other.campaign} == {"night"}
    hear(Desk(ctx, MemoryLink()), answer(one.command_id, "accepted", 50))
    assert task_view(ctx, TASK).captures == "2 open, 50 of 400 frames"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"devices": ("box-9",)}, "box-9"),
        ({"devices": ()}, "--device"),
        ({"class_name": "rust"}, "scratch, missing, misplaced"),
        ({"low": 0.6, "high": 0.3}, "low 0.6"),
        ({"frames": 10_001}, "10000"),
        ({"before": 65}, "64"),
        ({"hours": 1e30}, "capture for box-1"),
    ],
)
def test_what_no_box_could_do_is_refused_here(ctx: Context, changes: dict[str, object], told: str) -> None:
    """An unknown device or class and values beyond their bounds are told before anything is recorded."""
    with pytest.raises(CaptureRefused, match=told):
        ask(ctx, **changes)
    assert captures_of(ctx, TASK) == []
    with pytest.raises(UnknownTask):
        ask_for_frames(ctx, "no-such-task", CaptureWish((DEVICE,), 1), by="ana")


def test_the_dialogue_over_a_real_broker(ctx: Context, tmp_path: Path) -> None:
    """Asked for, sent by the standing duty, answered and recorded over Mosquitto."""
    with mosquitto(tmp_path) as port:
        link, box = MqttLink(BrokerSettings(port=port), tmp_path), MqttBox(port, TASK, DEVICE)
        duties = tuple(duty for duty in standard_duties(ctx.settings, link) if duty.name == "captures")
        try:
            box.wait_ready()
            with serving(ctx, link, *duties):
                command = ask(ctx, frames=2)
                wait_until(lambda: box.newest("capture") is not None, 20, "the command")
                assert decode(CaptureCommand, box.newest("capture") or b"", where="box") == command

                def recorded() -> bool:
                    # A message is a hint: the box says it again until the cloud stops asking.
                    box.say("command-answer", encode(answer(command.command_id, "done", 2)))
                    return captures_of(ctx, TASK)[0].outcome == "done"

                wait_until(recorded, 20, "the answer to be recorded")
        finally:
            box.close()


def test_the_standing_duty_runs_with_nothing_asked_for(ctx: Context) -> None:
    """It stands among the duties of every installation."""
    link = MemoryLink()
    desk = Desk(ctx, link, MemoryEvents())
    (duty,) = (one for one in standard_duties(ctx.settings, link) if one.name == "captures")
    duty.work(desk)
    assert sent(link) == []
