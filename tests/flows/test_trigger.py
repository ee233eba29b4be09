"""Hold the trigger to law 4, and to saying why (law 10)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from fleet_contracts import utc_now
from flows import trigger
from flows.catalog.forget import ForgetWhat, forget
from flows.champion import Promotion, set_champion
from flows.context import Context
from flows.database.schema import RunRow, RunState, TriggerRow
from flows.events import MemoryEvents, PrefectEvents
from flows.snapshots.cut import cut_snapshot
from flows.trigger import EVENT, LastRun, TriggerFacts, check_trigger, decide, emit_ready
from tests.flows.kit import TASK, SimulatedBox, box_label, label, picture, sent_and_labelled

if TYPE_CHECKING:
    from prefect.events import Event


def _promote(ctx: Context, snapshot_id: str | None = None, version: int = 1) -> None:
    set_champion(
        ctx,
        TASK,
        Promotion(
            release_version=version, model_id=f"{version:064d}", onnx_key="o", weights_key="w",
            weights_sha256="b" * 64, weights_bytes=1, class_list_version=1, reason="test", snapshot_id=snapshot_id,
        ),
    )  # fmt: skip


def _run(ctx: Context, snapshot_id: str, state: RunState, *, idle: float = 0.0, attempts: int = 1) -> None:
    then = utc_now() - timedelta(seconds=idle)
    with ctx.database.session() as session:
        session.merge(
            RunRow(
                run_id="run-1",
                task_id=TASK,
                snapshot_id=snapshot_id,
                start_kind="champion",
                start_sha256="b" * 64,
                recipe={},
                state=state,
                attempts=attempts,
                started_at=then,
                touched_at=then,
            )  # fmt: skip
        )


def _facts(
    verified_new: int = 10, last_run: LastRun | None = None, *, has_start: bool = True
) -> TriggerFacts:
    return TriggerFacts(verified_new, threshold=10, has_start=has_start, last_run=last_run)


@pytest.mark.parametrize(
    ("facts", "asked", "words"),
    [
        (_facts(9), False, "9 of 10"),
        (_facts(10), True, "10 verified"),
        (_facts(99, has_start=False), False, "neither a champion nor an origin"),
        (_facts(99, LastRun("active", 5, 1, 0)), False, "under way"),
        (_facts(0, LastRun("active", 500, 1, 0)), True, "unfinished"),
        (_facts(99, LastRun("refused", 5, 1, 9)), False, "refused; 9 of 10"),
        (_facts(99, LastRun("refused", 5, 1, 10)), True, "99 verified"),
        (_facts(99, LastRun("failed", 5, 1, 0)), False, "tried again soon"),
        (_facts(99, LastRun("failed", 500, 1, 0)), True, "99 verified"),
        (_facts(99, LastRun("failed", 500, 3, 0)), False, "failed at attempt 3"),
        (_facts(99, LastRun("failed", 500, 3, 10)), True, "99 verified"),
        (TriggerFacts(99, 10, has_start=True, labels_problem="3 of 9 refused"), False, "3 of 9 refused"),
        (_facts(10, LastRun("finished", 5, 1, 10)), True, "10 verified"),
    ],
)
def test_the_decision_says_why(facts: TriggerFacts, asked: bool, words: str) -> None:
    """Each state of a task has its answer and its reason."""
    verdict = decide(facts)
    assert verdict.asked is asked
    assert words in verdict.reason


def test_only_verified_labels_made_here_count(ctx: Context) -> None:
    """Unverified, imported, replaced and forgotten labels do not count toward the threshold."""
    _promote(ctx)
    box = SimulatedBox(ctx)
    ids = [box.send(picture(number), part=f"plate-{number}") for number in range(5)]
    label(ctx, ids[0], box_label())
    label(ctx, ids[1], box_label(), verified=False, source="teacher")
    label(ctx, ids[2], box_label(), imported=True)
    label(ctx, ids[3], box_label())
    label(ctx, ids[3], box_label(1))
    label(ctx, ids[4], box_label())
    forget(ctx, TASK, ForgetWhat(sample_id=ids[4]), by="test", reason="asked to")
    assert check_trigger(ctx, TASK).verified_new == 2


def test_labels_of_the_champions_snapshot_are_not_new(ctx: Context) -> None:
    """Counting begins again with each champion; a corrected label is new again."""
    _promote(ctx)
    ids = sent_and_labelled(ctx, 8)
    assert check_trigger(ctx, TASK).asked
    snapshot = cut_snapshot(ctx, TASK)
    _promote(ctx, snapshot.snapshot_id, version=2)
    assert check_trigger(ctx, TASK).verified_new == 0
    label(ctx, ids[0], box_label(2, cx=0.3))
    sent_and_labelled(ctx, 2, first=40)
    decision = check_trigger(ctx, TASK)
    assert (decision.verified_new, decision.asked, decision.champion_snapshot) == (
        3,
        False,
        snapshot.snapshot_id,
    )


def test_a_refused_candidate_is_not_asked_for_again(ctx: Context) -> None:
    """The same data would give the same candidate; as many new labels as a first run needs change that."""
    _promote(ctx)
    sent_and_labelled(ctx, 8)
    snapshot = cut_snapshot(ctx, TASK)
    _run(ctx, snapshot.snapshot_id, "refused")
    assert not check_trigger(ctx, TASK).asked
    sent_and_labelled(ctx, 5, first=40)
    assert check_trigger(ctx, TASK).asked


def test_a_run_without_a_flow_is_asked_for_again(ctx: Context) -> None:
    """A flow that was killed stops touching its run, and the sweep asks again."""
    _promote(ctx)
    _run(ctx, "c" * 64, "active", idle=1)
    assert not check_trigger(ctx, TASK).asked
    _run(ctx, "c" * 64, "active", idle=trigger.STALE_SECONDS + 1)
    assert check_trigger(ctx, TASK).asked


def test_decisions_are_recorded_when_they_change(ctx: Context) -> None:
    """The database and the journal keep every change of mind, not every look."""
    _promote(ctx)
    check_trigger(ctx, TASK)
    check_trigger(ctx, TASK)
    sent_and_labelled(ctx, 6)
    check_trigger(ctx, TASK)
    with ctx.database.reader() as session:
        rows = session.scalars(select(TriggerRow).order_by(TriggerRow.id)).all()
    assert [row.asked for row in rows] == [False, True]
    assert len(list(ctx.store.list(f"tasks/{TASK}/journal/triggers/"))) == 2


def test_the_event_is_sent_again_but_not_too_often(ctx: Context) -> None:
    """Events can be lost, so one goes out every half minute until a run is under way."""
    _promote(ctx)
    sent_and_labelled(ctx, 6)
    decision, now, events = check_trigger(ctx, TASK), utc_now(), MemoryEvents()
    assert emit_ready(ctx, decision, now, events)
    assert not emit_ready(ctx, decision, now + timedelta(seconds=10), events)
    sent_and_labelled(ctx, 1, first=30)
    assert not emit_ready(ctx, check_trigger(ctx, TASK), now + timedelta(seconds=20), events)
    assert emit_ready(ctx, check_trigger(ctx, TASK), now + timedelta(seconds=31), events)
    assert [(event, task) for event, task, _ in events.sent] == [(EVENT, TASK)] * 2
    assert events.sent[0][2]["verified_new"] == 6


def test_nothing_is_sent_without_a_reason(ctx: Context) -> None:
    """A decision against a run sends no event."""
    _promote(ctx)
    events = MemoryEvents()
    assert not emit_ready(ctx, check_trigger(ctx, TASK), events=events)
    assert events.sent == []


def test_prefect_gets_the_task_as_a_resource(prefect_gets: Callable[[], list[Event]]) -> None:
    """The automation starts the deployment with the task it reads from the event's resource."""
    PrefectEvents().emit(EVENT, TASK, {"verified_new": 7})
    sent = prefect_gets()
    assert [event.event for event in sent] == [EVENT]
    resource = sent[0].resource.root
    assert (resource["prefect.resource.id"], resource["whetstone.task"]) == (f"whetstone.task.{TASK}", TASK)
    assert sent[0].payload == {"verified_new": 7}
