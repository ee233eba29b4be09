"""Raise an alarm in every place a person looks, once, and let nothing of it end a training."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from fleet_contracts import utc_now
from fleet_contracts.training import RunEvent, RunEventKind, TrainPlan
from flows.context import Context
from flows.errors import StoreAway
from flows.events import MemoryEvents
from flows.gpus.memory import MemoryProvider
from flows.retrain.alarms import EVENT, Alarms
from tests.flows.kit import TASK
from tests.flows.retrain.simulated import OFFER
from tests.flows.retrain.test_money import PAID, case_of

T4 = PAID.model_copy(update={"gpu": "T4", "gpu_count": 1, "gpu_memory_mib": 16384})


def event(plan: TrainPlan, number: int, what: RunEventKind, **data: Any) -> RunEvent:
    """Return one event of a run."""
    return RunEvent(
        task_id=TASK, run_id=plan.run_id, number=number, at=utc_now(), kind=what, epoch=number, data=data
    )


def starve(alarms: Alarms, plan: TrainPlan, kind: str = "loader") -> None:
    """Tell of a machine whose card waits for data, for five epochs."""
    alarms.heard(event(plan, 0, "watch", kind=kind, why="steps wait for data"))
    for number in range(1, 6):
        alarms.heard(event(plan, number, "epoch", seconds=200.0, utilisation=0.3, data_wait_share=0.5))


def test_an_alarm_is_in_log_event_page_and_record(ready: Context, caplog: pytest.LogCaptureFixture) -> None:
    """Once for each diagnosis, with the watch's words."""
    plan = case_of(ready, MemoryProvider(), OFFER).plan.model_copy(update={"offer": T4})
    events, pages = MemoryEvents(), list[tuple[str, str, str]]()
    alarms = Alarms(ready, plan, lambda *page: pages.append(page), events)
    with caplog.at_level(logging.WARNING):
        starve(alarms, plan)
    assert [(name, task) for name, task, _ in events.sent] == [(EVENT, TASK)]
    assert "loader; steps wait for data" in caplog.text
    assert pages[0][0] == f"{plan.run_id}-alarm"
    (kept,) = ready.store.list(f"tasks/{TASK}/journal/alarms/")
    record = json.loads(ready.store.get(kept.key))
    assert (record["run_id"], record["kind"], record["utilisation"]) == (plan.run_id, "loader", 0.3)
    starve(alarms, plan, "disk")
    assert [one[2]["kind"] for one in events.sent] == ["loader", "disk"]


def test_a_run_without_a_card_raises_none(ready: Context) -> None:
    """What is measured there is the processor."""
    plan = case_of(ready, MemoryProvider(), OFFER).plan
    events = MemoryEvents()
    starve(Alarms(ready, plan, lambda *_: None, events), plan)
    assert events.sent == []


def test_no_outage_ends_the_training_over_an_alarm(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the bucket's nor Prefect's."""
    plan = case_of(ready, MemoryProvider(), OFFER).plan.model_copy(update={"offer": T4})
    tried: list[str] = []

    def away(*_: object) -> None:
        tried.append("put")
        raise StoreAway(expected="an answer", got="none", where="store")

    def broken(*_: object) -> None:
        tried.append("show")
        raise RuntimeError("no server")

    monkeypatch.setattr(ready.store, "put", away)
    starve(Alarms(ready, plan, broken, MemoryEvents()), plan)
    assert tried == ["put", "show"]
