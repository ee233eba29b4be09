"""Kill everything, again and again, and see that nothing is lost and nothing is done twice."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from fleet_contracts import decode, keys
from fleet_contracts.training import RunEvent
from flows.context import Context, open_context
from flows.database.schema import CandidateRow, DeviceRow, RunRow
from tests.soak.processes import KINDS, Demo, living

KILLS = 30
PATIENCE = 45 * 60.0  # seconds for the whole demo, kills included
REST = 4.0  # seconds between two kills: some hit a process that is still starting
TASK = "boards"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Run the demo, and leave no process behind."""
    running = Demo(tmp_path / "demo")
    running.start()
    yield running
    if running.ended() is None and running.process is not None:
        running.process.kill()
    for _, process in list(living(running.folder)):
        process.kill()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_kills_lose_nothing_and_repeat_nothing(demo: Demo) -> None:
    """Thirty SIGKILLs over all kinds of processes: no example lost, one candidate, one release, both boxes inspect."""
    _wait_for_first_frame(demo)
    _kill_until_done(demo, random.Random(7))
    assert len(demo.hits) >= KILLS, Counter(demo.hits)
    assert set(demo.hits) == set(KINDS), Counter(demo.hits)

    summary = json.loads((demo.folder / "report" / "summary.json").read_text())
    assert summary["demo.examples_lost"] == 0
    with open_context(demo.folder) as ctx:
        _require_one_outcome_per_run(ctx)
        _require_few_epochs_repeated(ctx, demo.hits)
        _require_boxes_serve_the_same(ctx)


def _wait_for_first_frame(demo: Demo) -> None:
    deadline = time.monotonic() + 240
    while not list(demo.folder.glob("demo/*/camera/*.jpg")):
        assert demo.ended() is None, demo.log()[-3000:]
        assert time.monotonic() < deadline, "no frame within 240 s\n" + demo.log()[-3000:]
        time.sleep(0.2)


def _kill_until_done(demo: Demo, draw: random.Random) -> None:
    """Kill the kinds that were hit least, as long as the demo runs; the last kills leave it time to end."""
    deadline = time.monotonic() + PATIENCE
    next_kill = time.monotonic()
    while demo.ended() is None:
        assert time.monotonic() < deadline, demo.log()[-3000:]
        if len(demo.hits) < KILLS and time.monotonic() >= next_kill:
            _kill_one(demo, draw)
            next_kill = time.monotonic() + REST
        time.sleep(0.2)
    assert demo.ended() == 0, demo.log()[-3000:]


def _kill_one(demo: Demo, draw: random.Random) -> None:
    alive = list(living(demo.folder))
    count = Counter(demo.hits)
    missing = set(KINDS) - set(demo.hits)
    reserved = KILLS - len(demo.hits) <= len(missing)
    # What lives only while a training runs (flow, trainer, child) keeps its share of the kills.
    eligible = [(kind, process) for kind, process in alive if not reserved or kind in missing]
    if not eligible:
        return
    least = min(count[kind] for kind, _ in eligible)
    kind, victim = draw.choice([pair for pair in eligible if count[pair[0]] == least])
    demo.kill(kind, victim)


def _require_one_outcome_per_run(ctx: Context) -> None:
    with ctx.database.reader() as session:
        runs = session.scalars(select(RunRow.run_id)).all()
        for run_id in runs:
            candidates = session.scalar(
                select(func.count()).select_from(CandidateRow).where(CandidateRow.candidate_id == run_id)
            )
            assert (candidates or 0) <= 1
        versions = session.scalars(
            select(CandidateRow.release_version).where(CandidateRow.release_version.is_not(None))
        ).all()
    assert len(set(versions)) == len(versions)
    assert runs


def _require_few_epochs_repeated(ctx: Context, hits: list[str]) -> None:
    """Each kill of flow, trainer, child (or of what they need) may repeat one epoch."""
    with ctx.database.reader() as session:
        runs = session.scalars(select(RunRow.run_id)).all()
    for run_id in runs:
        prefix = keys.run(TASK, run_id, "events/")
        events = [decode(RunEvent, ctx.store.get(item.key), where=item.key) for item in ctx.store.list(prefix)]
        resumes = sum(event.kind == "resumed" for event in events)
        epochs = Counter(event.epoch for event in events if event.kind == "epoch")
        repeated = sum(count - 1 for count in epochs.values())
        assert repeated <= resumes, (epochs, hits)


def _require_boxes_serve_the_same(ctx: Context) -> None:
    with ctx.database.reader() as session:
        rows = session.scalars(select(DeviceRow).where(DeviceRow.task_id == TASK)).all()
        reports = [dict(row.report) for row in rows]
    assert len(reports) == 2
    assert len({report["release_version"] for report in reports}) == 1
    assert all(report["release_version"] >= 2 for report in reports)
    assert all(report["outbox_lost"] == 0 for report in reports)
