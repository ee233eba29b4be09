"""Turn what is known of a run into what a tracking store shows: pure, the same for the same story."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from fleet_contracts.base import Value
from fleet_contracts.training import RunEvent
from flows.retrain.progress import gate_table
from flows.tracking import words
from flows.tracking.base import Picture, Point, RunStatus
from flows.tracking.planned import plan_words
from flows.tracking.story import Facts, Story, facts_of, rung_line
from trainer.tracking.measures import OURS, measures_of

_TAG = "whetstone."
_UNFIT = re.compile(r"[^A-Za-z0-9_\-. :/]")
_STATUS: dict[str, RunStatus] = {
    "active": "RUNNING", "running": "RUNNING", "planned": "RUNNING", "failed": "FAILED",
    "cancelled": "FAILED",
    "finished": "FINISHED", "refused": "FINISHED",
}  # fmt: skip
"""A refused candidate is no failure of its run: the tag `whetstone.gate` says what became of it."""


def picture_of(story: Story, now: datetime) -> Picture:
    """Return everything that is to be seen of a run."""
    facts = facts_of(story, now)
    ended = story.ledger.ended_at if story.ledger else None
    return Picture(
        run_id=story.run_id,
        params={f"plan.{name}": value for name, value in plan_words(story.plan).items() if value}
        if story.plan
        else {},
        tags=_tags(story, facts),
        points=tuple(_points(story, facts, ended or now)),
        files=_files(story),
        status=_STATUS.get(facts.state),
        ended_at=ended,
    )


def picture_of_event(event: RunEvent) -> Picture | None:
    """Return what one event adds to a run's picture; None when it is nothing that is tracked.

    Cost, verdict and totals come with the whole picture. An epoch's points are those the record will have.
    """
    if event.kind == "epoch":
        found = measures_of(event.data)
        points = tuple(Point(name, event.epoch, value, event.at) for name, value in found.items())
        return Picture(event.run_id, points=points, status="RUNNING")
    if event.kind == "rung":
        return Picture(event.run_id, tags={f"{_TAG}rung_now": rung_line(event)}, status="RUNNING")
    return None


def _tags(story: Story, facts: Facts) -> dict[str, str]:
    tags = {
        f"{_TAG}task": story.task_id,
        f"{_TAG}state": facts.state,
        f"{_TAG}reason": facts.reason,
        f"{_TAG}snapshot": facts.snapshot_id,
        f"{_TAG}device": facts.device,
        f"{_TAG}vram_predicted": words.vram_planned(facts) if facts.vram_planned else "",
        f"{_TAG}vram_seen": words.gib(facts.vram_seen) if facts.vram_seen else "",
        f"{_TAG}gate": words.verdict(facts) if facts.verdict else "",
        f"{_TAG}broken_rules": "; ".join(facts.broken_rules),
        f"{_TAG}rungs": "; ".join(facts.rungs),
        f"{_TAG}watch": "; ".join(facts.watch),
    }
    versions = story.record.versions if story.record else {}
    tags |= {f"{_TAG}version.{name}": value for name, value in versions.items()}
    return {name: value for name, value in tags.items() if value}


def _points(story: Story, facts: Facts, now: datetime) -> list[Point]:
    found = [*_epochs(story), *_rungs(story)]
    whole = {
        "cost_dollars": facts.cost,
        "cost_predicted_dollars": facts.cost_planned,
        "cost_of_model_dollars": facts.cost_of_model,
        "cost_per_map_point_dollars": facts.cost_per_point,
        "map_points_gained": facts.gain,
        "saved_by_spot_dollars": facts.saved if facts.cost else None,
        "vram_predicted_mib": _mib(facts.vram_planned),
        "vram_peak_mib": _mib(facts.vram_seen),
        "data_wait": facts.data_wait,
        "data_cache_hits": facts.hit_rate,
        "seconds_of_epochs": facts.seconds,
        "seconds_predicted": facts.seconds_planned,
        "rungs": float(len(facts.rungs)) if story.record else None,
        "resumes": float(facts.resumes) if story.record else None,
    }
    whole |= {f"gate/{name}": value for name, value in facts.measures.items()}
    if facts.verdict:
        whole["gate/promoted"] = float(facts.verdict == "promoted")
    return [
        *found,
        *(
            Point(OURS + _UNFIT.sub("_", name), 0, float(value), now)
            for name, value in whole.items()
            if value is not None and math.isfinite(value)
        ),
    ]


def _epochs(story: Story) -> list[Point]:
    record = story.record
    if record is None:
        return []
    points = []
    at = record.started_at
    for epoch in record.epochs:
        # The record holds no clock times of epochs; their own seconds put them in order.
        at += timedelta(seconds=epoch.seconds)
        found = measures_of(epoch.model_dump())
        points += [Point(name, epoch.epoch, value, at) for name, value in found.items()]
    return points


def _rungs(story: Story) -> list[Point]:
    """Return the number of rungs taken, at each epoch that took one."""
    events = story.record.rungs if story.record else ()
    return [
        Point(f"{OURS}rungs_taken", event.epoch, float(number), event.at)
        for number, event in enumerate(events, start=1)
    ]


def _files(story: Story) -> dict[str, str]:
    kept = {"plan.json": story.plan, "run.json": story.record, "gate.json": story.gate}
    files = {name: _text(document) for name, document in kept.items() if document is not None}
    if story.gate is not None:
        files["gate.md"] = gate_table(story.gate)
    return files


def _text(document: Value) -> str:
    return document.model_dump_json(indent=1)


def _mib(count: int | None) -> float | None:
    return None if count is None else count / 2.0**20
