"""Hold forgetting to law 11: gone everywhere, for good, with the models it concerns named."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from fleet_contracts import keys, utc_now
from fleet_contracts.keys import Incoming
from flows.catalog.forget import ForgetWhat, forget
from flows.context import Context
from flows.database.schema import CandidateRow, RunRow, SampleRow, ShardRow, TombstoneRow
from flows.errors import FlowsError
from flows.snapshots.cut import cut_snapshot
from tests.flows.ingest.crashing import Crash, Fuse, doomed
from tests.flows.kit import START, TASK, SimulatedBox, box_label, label, picture, sent_and_labelled


def _mentions(ctx: Context, sample_id: str) -> list[str]:
    kept = (f"tasks/{TASK}/tombstones/", f"tasks/{TASK}/journal/", f"tasks/{TASK}/snapshots/")
    return [
        info.key
        for info in ctx.store.list("tasks/")
        if not info.key.startswith(kept)
        and (sample_id in info.key or sample_id.encode() in ctx.store.get(info.key))
    ]


def test_a_sample_is_gone_from_everywhere(ctx: Context) -> None:
    """Image, sidecar, labels, waiting uploads and shards are removed; a tombstone stays."""
    ids = sent_and_labelled(ctx, 6)
    cut_snapshot(ctx, TASK)
    box, again = SimulatedBox(ctx, "box-2"), picture(0)
    box.put(Incoming(TASK, "0" * 32, ids[0], "image"), again, box.describe(again, part="plate-0"))
    report = forget(ctx, TASK, ForgetWhat(sample_id=ids[0]), by="anna", reason="asked to")
    assert report.samples == (ids[0],)
    assert _mentions(ctx, ids[0]) == []
    assert ctx.store.stat(keys.tombstone(TASK, ids[0])) is not None
    with ctx.database.reader() as session:
        assert session.get(SampleRow, (TASK, ids[0])) is None
        assert session.get_one(TombstoneRow, (TASK, ids[0])).forgotten_by == "anna"
    assert _mentions(ctx, ids[1]) != []


def test_models_trained_on_it_are_named(ctx: Context) -> None:
    """The record says which snapshots, runs, models and releases the samples are in."""
    ids = sent_and_labelled(ctx, 6)
    snapshot = cut_snapshot(ctx, TASK)
    now = utc_now()
    with ctx.database.session() as session:
        session.add(
            RunRow(
                run_id="run-7",
                task_id=TASK,
                snapshot_id=snapshot.snapshot_id,
                start_kind="champion",
                start_sha256="b" * 64,
                recipe={},
                state="finished",
                started_at=now,
                touched_at=now,
            )  # fmt: skip
        )
        session.add(
            CandidateRow(
                candidate_id="run-7",
                task_id=TASK,
                run_id="run-7",
                model_id="d" * 64,
                state="promoted",
                channel="stable",
                release_version=4,
                collected_at=now,
            )  # fmt: skip
        )
    report = forget(ctx, TASK, ForgetWhat(sample_id=ids[2]), by="anna", reason="asked to")
    assert (report.snapshots, report.runs) == ((snapshot.snapshot_id,), ("run-7",))
    assert (report.models, report.releases) == (("d" * 64,), (4,))
    assert len(list(ctx.store.list(f"tasks/{TASK}/journal/forgotten/"))) == 1


def test_a_device_or_a_span_of_time_can_be_forgotten(ctx: Context) -> None:
    """Everything one device saw, or everything seen between two moments, goes at once."""
    first, second = SimulatedBox(ctx), SimulatedBox(ctx, "box-2")
    mine = [first.send(picture(n), part=f"a-{n}", at=START + timedelta(hours=n)) for n in range(4)]
    theirs = [second.send(picture(n), part=f"b-{n}") for n in range(10, 12)]
    span = ForgetWhat(since=START + timedelta(hours=1), until=START + timedelta(hours=3))
    assert set(forget(ctx, TASK, span, by="anna", reason="asked to").samples) == set(mine[1:3])
    report = forget(ctx, TASK, ForgetWhat(device_id="box-2"), by="anna", reason="asked to")
    assert set(report.samples) == set(theirs)
    with ctx.database.reader() as session:
        assert session.get(SampleRow, (TASK, mine[0])) is not None


def test_naming_nothing_forgets_nothing(ctx: Context) -> None:
    """Leaving everything out is a mistake, not a wish to lose the task."""
    with pytest.raises(FlowsError, match="none of them"):
        forget(ctx, TASK, ForgetWhat(), by="anna", reason="oops")


def test_a_kill_in_between_is_finished_by_the_same_command(ctx: Context) -> None:
    """Forgetting dies after each of its operations once; run again it leaves nothing behind."""
    step, done = 0, False
    while not done:
        step += 1
        sample_id = SimulatedBox(ctx).send(picture(step), part=f"plate-{step}")
        label(ctx, sample_id, box_label())
        fuse = Fuse(at=step, after=True)
        what = ForgetWhat(sample_id=sample_id)
        try:
            forget(doomed(ctx, fuse), TASK, what, by="anna", reason="asked to")
            done = True
        except Crash:
            assert fuse.blown
            forget(ctx, TASK, what, by="anna", reason="asked to")
        assert _mentions(ctx, sample_id) == []
    assert step > 8


def test_copies_in_the_work_folder_and_the_gates_pictures_go(ctx: Context) -> None:
    """What runs keep on disk and what the gate drew of a sample is removed; what speaks of others stays."""
    ids = sent_and_labelled(ctx, 6)
    cut_snapshot(ctx, TASK)
    with ctx.database.reader() as session:
        shard = session.scalars(select(ShardRow)).one().sha256
    gone, stays = ids[0], ids[1]
    run = ctx.folder / "work" / "run-7"
    doomed_files = [
        ctx.folder / "work" / f"origin-{TASK}" / "parity" / f"{gone}.jpg",
        run / "dataset" / "images" / f"{gone}.jpg",
        run / "dataset" / "images" / f"{gone}.npy",
        run / "cache" / shard,
        run / "cache" / f"{shard}.part",
        run / "judged" / "images" / f"{gone}.jpg",
        run / "judged" / "pictures" / f"change-{gone[:12]}.jpg",
    ]
    kept_files = [
        run / "dataset" / "images" / f"{stays}.jpg",
        run / "cache" / ("e" * 64),
        run / "judged" / "pictures" / f"change-{stays[:12]}.jpg",
        run / "judged" / "model.onnx",
    ]
    for path in (*doomed_files, *kept_files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"bytes")
    drawn, other = (keys.candidate(TASK, "run-7", f"change-{one[:12]}.jpg") for one in (gone, stays))
    ctx.store.put(drawn, b"picture")
    ctx.store.put(other, b"picture")
    forget(ctx, TASK, ForgetWhat(sample_id=gone), by="anna", reason="asked to")
    assert [path for path in doomed_files if path.exists()] == []
    assert [path for path in kept_files if not path.exists()] == []
    assert (ctx.store.stat(drawn), ctx.store.stat(other) is None) == (None, False)
