"""Hold the duties together: what ingest does on its own, end to end, with everything outside in memory."""

from __future__ import annotations

import pytest

from fleet_contracts import encode
from fleet_contracts.samples import ClassList
from flows.champion import Promotion, set_champion
from flows.context import Context
from flows.events import MemoryEvents
from flows.ingest.desk import Desk
from flows.ingest.duties import standard_duties
from flows.ingest.link import MemoryLink
from flows.trigger import EVENT
from tests.flows.kit import CLASSES, TASK, SimulatedBox, picture


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
