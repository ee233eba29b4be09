"""Measure how a demo went, once it is over: recall before and after, what was lost, what the run took.

Before and after are both measured through `detection/`, on parts that were on no line, each model with
the thresholds it was released with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from demo.line.script import ALL_CLASSES
from demo.loop.glance import Glance, look
from demo.loop.renting import rented_of
from demo.loop.served import ServedModel, fetch_served
from demo.loop.settings import LoopSettings
from demo.loop.state import DemoState
from demo.measure import UNSEEN_SEED, PartSet, by_kind, predict, thresholds_of
from demo.report.pictures import Compared, choose_most_changed
from demo.report.rented import Rented
from detection import Detections
from detection.metrics.recall import recall_at
from fleet_contracts.samples import DecisionRules
from flows.context import Context
from flows.database.schema import SightingRow
from flows.tracking.gather import story_of
from flows.tracking.story import Story

_PICTURES = 8
Recalls = dict[str, dict[str, float]]
"""Recall by mix, then by kind and `all`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold everything the report tells of a demo on the simulated line."""

    before: Recalls
    after: Recalls
    pictures: tuple[Compared, ...]
    glance: Glance
    run: Story
    rented: Rented | None
    seconds: float
    frames_dropped: int
    examples_lost: int


@dataclass(frozen=True, slots=True)
class Models:
    """Hold the release the boxes began with and the one they serve at the end."""

    before: ServedModel
    after: ServedModel


def measure_outcome(ctx: Context, settings: LoopSettings, state: DemoState, work: Path) -> Outcome:
    """Measure a demo that is over; nothing in the loop is changed by it."""
    assert state.base_version is not None
    assert state.new_version is not None
    task, channel = settings.task_id, settings.channel
    models = Models(
        fetch_served(ctx, task, channel, state.base_version, work),
        fetch_served(ctx, task, channel, state.new_version, work),
    )
    glance = look(ctx, task)
    run = story_of(ctx, task, glance.run.run_id)
    return Outcome(
        before=recalls_of(models.before.onnx, models.before.rules, settings),
        after=recalls_of(models.after.onnx, models.after.rules, settings),
        pictures=tuple(compare_models(models, settings)),
        glance=glance,
        run=run,
        rented=rented_of(ctx, run, settings.cloud),
        seconds=_seconds(state),
        frames_dropped=frames_dropped(glance),
        examples_lost=examples_lost(ctx, task, glance),
    )


def unseen(settings: LoopSettings, mix: str) -> PartSet:
    """Return the parts a demo is measured on; they were on no line."""
    return PartSet(mix, UNSEEN_SEED + settings.seed, settings.unseen_parts)


def recalls_of(onnx: Path, rules: DecisionRules, settings: LoopSettings) -> Recalls:
    """Return a model's recall on unseen parts: what changed and is new, and the old mix."""
    found: Recalls = {}
    for mix in ("novel", "known"):
        predictions, truths = predict(onnx, unseen(settings, mix))
        found[mix] = by_kind(recall_at(predictions, truths, thresholds_of(rules)))
    return found


def compare_models(models: Models, settings: LoopSettings) -> list[Compared]:
    """Return unseen parts on which the old model missed something that the new one finds."""
    parts = PartSet("novel", UNSEEN_SEED + settings.seed, min(80, settings.unseen_parts))
    before, truths = predict(models.before.onnx, parts)
    after, _ = predict(models.after.onnx, parts)
    compared = [
        Compared(
            name=f"unseen part {number}",
            image=picture.image,
            truth=truths[number],
            before=at_threshold(before[number], models.before.rules),
            after=at_threshold(after[number], models.after.rules),
        )
        for number, picture in enumerate(parts.pictures())
    ]
    return choose_most_changed(compared, _PICTURES)


def at_threshold(found: Detections, rules: DecisionRules) -> Detections:
    """Return the detections that reject a part."""
    limits = np.asarray(thresholds_of(rules), np.float32)
    return found.select(found.confidence >= limits[found.class_id])


def frames_dropped(glance: Glance) -> int:
    """Count the frames the boxes dropped, in swaps and otherwise."""
    swaps = [report.last_swap.frames_dropped for report in glance.devices.values() if report.last_swap]
    return sum(swaps) + sum(report.frames_dropped for report in glance.devices.values())


def examples_lost(ctx: Context, task_id: str, glance: Glance) -> int:
    """Count the examples the boxes kept that are neither in the catalog nor waiting on the box.

    A box killed between keeping and counting counts low, never high, so what it kept beyond its count
    is not a loss either.
    """
    lost = 0
    with ctx.database.reader() as session:
        for device, report in glance.devices.items():
            stored = session.scalar(
                select(func.count(func.distinct(SightingRow.sample_id))).where(
                    SightingRow.task_id == task_id, SightingRow.device_id == device
                )
            )
            kept = sum(report.kept.values())
            lost += max(0, kept - (stored or 0) - report.outbox_waiting) + report.outbox_lost
    return lost


def kinds_told() -> tuple[str, ...]:
    """Return the rows of the recall table: all kinds together, then each."""
    return ("all", *ALL_CLASSES)


def _seconds(state: DemoState) -> float:
    if state.first_frame_at is None or state.served_at is None:
        return 0.0
    return (state.served_at - state.first_frame_at).total_seconds()
