"""Hold the duties together: what ingest does on its own, end to end, with everything outside in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_contracts import encode, utc_now
from fleet_contracts.releases import DeviceReport, Lineage, RolloutState
from fleet_contracts.samples import ClassList
from flows.champion import Promotion, set_champion
from flows.classes import current_class_list
from flows.context import Context
from flows.database.schema import RolloutRow
from flows.errors import StoreAway
from flows.events import MemoryEvents
from flows.ingest.desk import Desk
from flows.ingest.devices import take_report
from flows.ingest.duties import standard_duties
from flows.ingest.link import MemoryLink
from flows.ingest.service import Duty
from flows.releases.build import ReleasePlan, build_release
from flows.retrain import promotion
from flows.retrain.first import _default_rules
from flows.settings import DecisionSettings
from flows.store import MemoryStore
from flows.trigger import EVENT
from tests.detection.onnx_models import save
from tests.flows.kit import CLASSES, DEVICE, TASK, SimulatedBox, picture
from tests.flows.retrain.simulated import GOOD, with_champion


def _champion(ctx: Context) -> None:
    promotion = Promotion(
        release_version=1, model_id="a" * 64, onnx_key="o", weights_key="w", weights_sha256="b" * 64,
        weights_bytes=1, class_list_version=1, reason="test",
    )  # fmt: skip
    set_champion(ctx, TASK, promotion)


def test_uploads_and_labels_become_an_event_without_any_message(ctx: Context) -> None:
    """With every MQTT message lost, duties alone take in uploads and labels and ask for a run (law 1)."""
    _champion(ctx)
    box, link, events = SimulatedBox(ctx), MemoryLink(), MemoryEvents()
    desk = Desk(ctx, link, events)
    folder = ctx.folder / "labels" / TASK
    folder.mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for number in range(5):
        content = picture(number)
        box.upload(content, box.describe(content, part=f"plate-{number}"))
        (folder / f"plate-{number}.txt").write_text(f"{number % 3} 0.5 0.5 0.2 0.2\n")
    for _ in range(2):
        for duty in standard_duties(ctx.settings, link):
            duty.work(desk)
    assert [(event, task) for event, task, _ in events.sent] == [(EVENT, TASK)]
    assert (desk.counts["receipt.stored"], desk.counts["labels.new"]) == (5, 5)
    assert desk.counts["trigger.emitted"] == 1


def test_a_problem_with_labels_is_counted_and_said(ctx: Context, caplog: pytest.LogCaptureFixture) -> None:
    """Refused files and an unusable class list are in the log, with their file."""
    desk = Desk(ctx, MemoryLink(), MemoryEvents())
    folder = ctx.folder / "labels" / TASK
    folder.mkdir(parents=True)
    duty = next(duty for duty in standard_duties(ctx.settings, MemoryLink()) if duty.name == "labels")
    duty.work(desk)
    assert "classes.txt" in caplog.text
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    SimulatedBox(ctx).send(picture(1), part="plate-1")
    (folder / "plate-1.txt").write_text("8 0.5 0.5 0.2 0.2\n")
    duty.work(desk)
    assert desk.counts["labels.refused"] == 1
    assert "plate-1.txt line 1" in caplog.text


def _second_release(ctx: Context, folder: Path) -> Context:
    """Bring two releases to the task's channel."""
    ctx = with_champion(ctx, folder)
    names = current_class_list(ctx, TASK)
    onnx = save(GOOD, folder / "second.onnx")
    plan = ReleasePlan(2, "stable", names, _default_rules(names, DecisionSettings()), Lineage(kind="run"), utc_now())
    release, files = build_release(plan, onnx, (), lambda _: b"")
    promotion.repository(ctx).publish(release, files)
    return ctx


def _rollout(ctx: Context, version: int, *, state: RolloutState = "rolling") -> None:
    with ctx.database.session() as session:
        session.add(
            RolloutRow(
                rollout_id=f"rollout-{version}", task_id=TASK, channel="stable", release_version=version,
                model_id="c" * 64, devices=[DEVICE], state=state, started_at=utc_now(), ended_at=None, reason="",
            )
        )  # fmt: skip


def _allowed(ctx: Context) -> tuple[int, ...]:
    policy = promotion.repository(ctx).channel_policy(TASK, "stable")
    assert policy is not None
    return policy.allowed


def _rollout_duty(ctx: Context) -> Duty:
    return next(duty for duty in standard_duties(ctx.settings, MemoryLink()) if duty.name == "rollouts")


def test_a_release_taken_back_after_the_flow_left_is_withdrawn(ctx: Context, tmp_path: Path) -> None:
    """When a device rolls back and no flow waits any more, the duty withdraws the release, once."""
    ctx = _second_release(ctx, tmp_path)
    _rollout(ctx, 2)
    desk, duty = Desk(ctx, MemoryLink(), MemoryEvents()), _rollout_duty(ctx)
    duty.work(desk)
    assert _allowed(ctx) == (1, 2)
    report = DeviceReport(
        task_id=TASK, device_id=DEVICE, reported_at=utc_now(), agent_version="0.1.0", state="rolled_back",
        release_version=1, rollout_id="rollout-2", problem="probe 0 differs",
    )  # fmt: skip
    take_report(ctx, report)
    for _ in range(2):
        duty.work(desk)
    assert _allowed(ctx) == (1,)
    assert (desk.counts["rollout.rolled_back"], desk.counts["release.withdrawn"]) == (1, 1)


def test_a_withdrawal_that_was_missed_is_made_up_for(
    ctx: Context, memory: MemoryStore, tmp_path: Path
) -> None:
    """A rollout that ended while nobody could withdraw is found again when the store is back (law 1)."""
    ctx = _second_release(ctx, tmp_path)
    _rollout(ctx, 2, state="rolled_back")
    desk, duty = Desk(ctx, MemoryLink(), MemoryEvents()), _rollout_duty(ctx)
    memory.away = True
    with pytest.raises(StoreAway):
        duty.work(desk)
    memory.away = False
    duty.work(desk)
    assert _allowed(ctx) == (1,)


def test_the_only_release_is_never_withdrawn(
    ctx: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Boxes must be left something to run, whatever a device said of it."""
    ctx = with_champion(ctx, tmp_path)
    _rollout(ctx, 1, state="rolled_back")
    desk = Desk(ctx, MemoryLink(), MemoryEvents())
    _rollout_duty(ctx).work(desk)
    assert _allowed(ctx) == (1,)
    assert desk.counts["release.withdrawn"] == 0
    assert "not_withdrawn" not in caplog.text


def test_without_signing_keys_other_rollouts_go_on(ctx: Context, caplog: pytest.LogCaptureFixture) -> None:
    """An installation that cannot sign says so once and follows its rollouts all the same."""
    _rollout(ctx, 1, state="rolled_back")
    duty = _rollout_duty(ctx)
    for _ in range(2):
        duty.work(Desk(ctx, MemoryLink(), MemoryEvents()))
    assert caplog.text.count("rollout.not_withdrawn") == 1


def test_every_task_is_served(ctx: Context) -> None:
    """Duties go over all tasks of the installation, also one without any data yet."""
    from flows.settings import TaskSettings
    from flows.tasks import create_task

    both = create_task(ctx, "boards", ("open", "short"), TaskSettings())
    desk, link = Desk(both, MemoryLink(), MemoryEvents()), MemoryLink()
    for duty in standard_duties(both.settings, link):
        duty.work(desk)
    assert encode(ClassList(task_id="boards", version=1, names=("open", "short"))) in [
        both.store.get(info.key) for info in both.store.list("tasks/boards/classes/")
    ]
