"""Hold the catalog to being a view: what the bucket says can be rebuilt by one command."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import delete, select

from fleet_contracts import keys
from flows.catalog.forget import ForgetWhat, forget
from flows.catalog.rebuild import rebuild_catalog
from flows.catalog.samples import labelled_samples, seen_frames
from flows.classes import add_class, current_class_list
from flows.context import Context
from flows.database import Database
from flows.database.schema import LabelRow, SampleRow, SightingRow, SnapshotRow
from flows.snapshots.cut import cut_snapshot
from flows.snapshots.load import load_snapshot
from tests.flows.kit import TASK, SimulatedBox, box_label, label, picture, sent_and_labelled


def _view(ctx: Context) -> object:
    with ctx.database.reader() as session:
        labelled = [
            (item.sample.sample_id, item.sample.look, item.sample.origin, item.sample.committed_at,
             item.label.revision, item.label.boxes, item.label.content_sha256)
            for item in labelled_samples(session, TASK)
        ]  # fmt: skip
        return labelled, seen_frames(session, TASK), current_class_list(ctx, TASK)


def test_an_empty_database_is_filled_from_the_bucket(ctx: Context, tmp_path: Path) -> None:
    """Samples, sightings, label revisions, class lists and snapshots come back as they were."""
    ids = sent_and_labelled(ctx, 6)
    add_class(ctx, TASK, "stain", "test", "it appeared")
    label(ctx, ids[0], box_label(1))
    snapshot = cut_snapshot(ctx, TASK)
    before = _view(ctx)
    empty = Database.open(f"sqlite:///{tmp_path / 'other.db'}")
    other = Context(ctx.folder, ctx.settings, ctx.store, empty)
    report = rebuild_catalog(other, TASK)
    assert (report.samples, report.labels, report.class_lists, report.snapshots) == (6, 7, 2, 1)
    assert report.problems == []
    assert _view(other) == before
    again = load_snapshot(other, TASK, snapshot.snapshot_id)
    assert again == snapshot
    assert cut_snapshot(other, TASK).snapshot_id == snapshot.snapshot_id
    empty.close()


def test_rebuilding_what_is_in_order_changes_nothing(ctx: Context) -> None:
    """The command may be run at any time."""
    sent_and_labelled(ctx, 4)
    before = _view(ctx)
    rebuild_catalog(ctx, TASK)
    assert rebuild_catalog(ctx, TASK).removed == 0
    assert _view(ctx) == before


def test_rows_without_an_object_go(ctx: Context) -> None:
    """The bucket is the truth: a row whose sidecar is gone is removed with its labels and sightings."""
    ids = sent_and_labelled(ctx, 3)
    ctx.store.delete(keys.sample_sidecar(TASK, ids[0]))
    assert rebuild_catalog(ctx, TASK).removed == 1
    with ctx.database.reader() as session:
        for table in (SampleRow, LabelRow, SightingRow):
            assert ids[0] not in set(session.scalars(select(table.sample_id)))


def test_broken_objects_are_named_and_skipped(ctx: Context) -> None:
    """One bad document does not keep the rest from being found."""
    ids = sent_and_labelled(ctx, 3)
    ctx.store.put(keys.sample_sidecar(TASK, ids[1]), b"{}")
    report = rebuild_catalog(ctx, TASK)
    assert report.samples == 2
    assert ids[1] in report.problems[0]


def test_the_forgotten_stay_forgotten(ctx: Context) -> None:
    """A tombstone in the bucket keeps a sample out, even where its objects came back."""
    box = SimulatedBox(ctx)
    sample_id = box.send(picture(1), part="plate-1")
    sidecar = ctx.store.get(keys.sample_sidecar(TASK, sample_id))
    forget(ctx, TASK, ForgetWhat(sample_id=sample_id), by="test", reason="asked to")
    ctx.store.put(keys.sample_sidecar(TASK, sample_id), sidecar)
    with ctx.database.session() as session:
        session.execute(delete(SnapshotRow))
    assert rebuild_catalog(ctx, TASK).samples == 0
