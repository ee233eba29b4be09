"""Thirty kills over all kinds of processes of the demo, and the demo comes to its end as if nothing was."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from demo.loop.floor import box_folder
from fleet_contracts import keys
from fleet_contracts.releases import DeviceReport
from flows.database import Database
from flows.database.schema import CandidateRow, DeviceRow, RunRow
from tests.demo.kills import Killer, start_demo, victims

KILLS = 30
SECONDS = 1700.0
PAUSE = 6.0
"""Seconds between two kills: most services are back by then, some are hit while they come back."""
MOST_RUN = 9
"""Kinds that must be alive for a kill, or a demo that just starts would be hit again and again."""
EXPECTED = {"demo", "up", "store", "releases", "broker", "prefect", "worker", "ingest", "flow", "trainer",
            "trainer-child", "agent-box-a", "agent-box-b", "line-box-a", "line-box-b"}  # fmt: skip
SETTINGS = {
    "seed": 1,
    "training": {"epochs": 8, "threshold": 90, "replay_images": 60, "golden_images": 60},
    "paces": {"known": 3.0, "changed": 4.0, "training": 1.0, "known_parts": 20},
    "unseen_parts": 60,
    # A short training on few parts need not be good: what is tested is that nothing is lost or doubled.
    "gate": {"max_golden_loss": 0.5, "max_golden_loss_worst": 1.0, "max_class_loss": 1.0, "class_ap50_floor": 0.0,
             "max_more_escapes_per_1000": 1000, "max_more_false_rejects_per_1000": 1000,
             "min_val_gain": -1.0, "max_latency_ratio": 50.0, "latency_slack_ms": 500.0},
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 100)
def test_thirty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """No example lost, one candidate and one release a run, at most one epoch repeated a kill, both boxes at work."""
    folder, killer = tmp_path / "demo", Killer(KILLS, EXPECTED)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(SETTINGS))
    deadline = time.monotonic() + SECONDS
    demo = start_demo(folder, settings, tmp_path / "demo.log")
    try:
        while demo.poll() != 0:
            assert time.monotonic() < deadline, (tmp_path / "demo.log").read_text()[-4000:]
            if demo.poll() is not None:
                assert demo.returncode == -9, (tmp_path / "demo.log").read_text()[-4000:]
                demo = start_demo(folder, settings, tmp_path / "demo.log")
            alive = victims(folder, demo)
            if killer.left and _has_begun(folder) and len(alive) >= MOST_RUN:
                killer.kill_one(alive)
            time.sleep(PAUSE)
    finally:
        _end(demo)
    assert killer.hits.total() == KILLS, f"the demo ended before every kill was made: {killer.hits}"
    assert set(killer.hits) >= EXPECTED
    _require_nothing_lost(folder, killer.hits)


def _has_begun(folder: Path) -> bool:
    state = folder / "demo" / "state.json"
    return state.is_file() and json.loads(state.read_text()).get("first_frame_at") is not None


def _end(demo: subprocess.Popen[bytes]) -> None:
    if demo.poll() is None:
        demo.terminate()
        demo.wait(60)


def _require_nothing_lost(folder: Path, hits: Counter[str]) -> None:
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert summary["demo.examples_lost"] == 0
    assert summary["demo.starts"] == hits["demo"] + 1
    database = Database.open(f"sqlite:///{folder / 'whetstone.db'}")
    try:
        with database.reader() as session:
            runs = session.scalars(select(RunRow)).all()
            candidates = session.scalars(select(CandidateRow)).all()
            devices = session.scalars(select(DeviceRow)).all()
            reports = [DeviceReport.model_validate(row.report) for row in devices]
    finally:
        database.close()
    assert len({one.run_id for one in candidates}) == len(candidates)
    _require_one_release_each(folder, [one for one in candidates if one.release_version is not None])
    for run in runs:
        _require_few_repeats(folder, run.run_id, hits)
    assert {report.state for report in reports} == {"serving"}
    for report in reports:
        made = box_folder(folder, report.device_id).parts_made()
        assert report.frames_inspected >= made, f"{report.device_id} inspected {report.frames_inspected} of {made}"
        assert report.outbox_waiting == 0


def _require_one_release_each(folder: Path, released: list[CandidateRow]) -> None:
    targets = folder / "store" / "whetstone" / keys.RELEASES / "targets" / "boards" / "stable"
    found = [path.parent.name for path in targets.glob("*/*.release.json")]
    assert len(found) == len(set(found)), f"a version was released twice: {sorted(found)}"
    assert len(found) == 1 + len(released)


def _require_few_repeats(folder: Path, run_id: str, hits: Counter[str]) -> None:
    events = folder / "store" / "whetstone" / keys.run("boards", run_id, "events")
    epochs = Counter(
        event["epoch"]
        for path in events.glob("*.json")
        if (event := json.loads(path.read_text()))["kind"] == "epoch"
    )
    repeated = sum(count - 1 for count in epochs.values())
    assert repeated <= hits["trainer"] + hits["trainer-child"], f"{run_id}: {epochs}"
