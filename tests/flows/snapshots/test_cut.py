"""Hold snapshots to law 2: immutable, whole, the same for the same data, and cut in seconds."""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from fleet_contracts import keys, sample_id_of, sha256_of
from flows.catalog.forget import ForgetWhat, forget
from flows.champion import Promotion, set_champion
from flows.classes import add_class
from flows.context import Context
from flows.database.schema import LabelFileRow, SampleRow, ShardRow, SnapshotMemberRow, SnapshotRow
from flows.errors import CannotStart, LabelsRefused, StoreMissing
from flows.labels.dataset import ImportItem
from flows.labels.importing import ImportPolicy, import_dataset
from flows.settings import DecisionSettings
from flows.snapshots.cut import cut_snapshot
from flows.snapshots.load import load_snapshot
from flows.store import MemoryStore
from tests.flows.ingest.crashing import Crash, Fuse, doomed
from tests.flows.kit import CLASSES, START, TASK, box_label, label, picture, sent_and_labelled, with_task
from tests.flows.store.servers import rclone_store


def _tar_members(ctx: Context, key: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(ctx.store.get(key))) as tar:
        return {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar}


def test_a_snapshot_holds_every_labelled_sample_with_its_images(ctx: Context) -> None:
    """Manifest, shards and catalog agree, and every image in a shard is what its name says."""
    ids = sent_and_labelled(ctx, 12)
    snapshot = cut_snapshot(ctx, TASK)
    assert [member.sample_id for member in snapshot.members] == sorted(ids)
    manifest = ctx.store.get(keys.snapshot_manifest(TASK, snapshot.snapshot_id))
    assert sha256_of(manifest) == snapshot.snapshot_id
    packed = {}
    for shard in snapshot.shards:
        assert sha256_of(ctx.store.get(shard.key)) == shard.sha256
        packed.update(_tar_members(ctx, shard.key))
    assert set(packed) == {f"{sample_id}.jpg" for sample_id in ids}
    assert all(sample_id_of(content) == name[:64] for name, content in packed.items())
    assert load_snapshot(ctx, TASK, snapshot.snapshot_id) == snapshot


def test_the_same_data_gives_the_same_snapshot(ctx: Context) -> None:
    """Cutting twice changes nothing; one more label gives another snapshot that shares what it can."""
    sent_and_labelled(ctx, 10)
    first = cut_snapshot(ctx, TASK)
    assert cut_snapshot(ctx, TASK) == first
    sent_and_labelled(ctx, 1, first=50)
    second = cut_snapshot(ctx, TASK)
    assert second.snapshot_id != first.snapshot_id
    before = {member.sample_id: member.split for member in first.members}
    assert {
        member.sample_id: member.split for member in second.members if member.sample_id in before
    } == before


def test_a_second_cut_reads_no_image_again(ctx: Context, memory: MemoryStore) -> None:
    """Shards are remembered by the list of their samples."""
    sent_and_labelled(ctx, 10)
    cut_snapshot(ctx, TASK)
    before = memory.calls["get"]
    cut_snapshot(ctx, TASK)
    assert memory.calls["get"] == before


def test_labels_carry_the_list_they_were_made_under(ctx: Context) -> None:
    """A label made before a class was added says so, member by member (law 9)."""
    ids = sent_and_labelled(ctx, 8)
    add_class(ctx, TASK, "stain", "test", "it appeared")
    label(ctx, ids[0], box_label(3), class_list_version=2)
    snapshot = cut_snapshot(ctx, TASK)
    assert snapshot.header.class_list.version == 2
    counts = {
        member.sample_id: (member.class_list_version, member.class_count) for member in snapshot.members
    }
    assert counts[ids[0]] == (2, 4)
    assert counts[ids[1]] == (1, 3)


def test_golden_images_are_in_no_shard(ctx: Context, tmp_path: Path) -> None:
    """What a trainer does not have it cannot train on; the manifest still names the golden set."""
    sent_and_labelled(ctx, 10)
    items = []
    for number in range(100, 120):
        image, text = tmp_path / f"{number}.jpg", tmp_path / f"{number}.txt"
        image.write_bytes(picture(number))
        text.write_text("0 0.5 0.5 0.2 0.2\n")
        items.append(ImportItem(str(number), image, text))
    import_dataset(ctx, TASK, items, ImportPolicy(class_names=CLASSES, golden_share=0.5))
    snapshot = cut_snapshot(ctx, TASK)
    golden = {member.sample_id for member in snapshot.of_split("golden")}
    packed = {sample_id for shard in snapshot.shards for sample_id in shard.samples}
    assert golden
    assert golden.isdisjoint(packed)
    assert packed == {member.sample_id for member in snapshot.members} - golden
    assert {member.origin for member in snapshot.of_split("val")} == {"mined"}


def _refuse(ctx: Context, count: int) -> None:
    with ctx.database.session() as session:
        for number in range(count):
            session.add(
                LabelFileRow(
                    task_id=TASK,
                    name=f"bad-{number}.txt",
                    content_sha256="",
                    state="refused",
                    reason=f"bad-{number}.txt line 1: expected a class from 0 to 2, got 9",
                    stamp="1:1",
                    seen_at=START,
                )  # fmt: skip
            )


def test_too_many_refused_labels_stop_the_snapshot(ctx: Context) -> None:
    """Above two in a hundred the labelling itself is in doubt, and the message lists the files."""
    sent_and_labelled(ctx, 49)
    _refuse(ctx, 1)
    cut_snapshot(ctx, TASK)
    with ctx.database.session() as session:
        session.query(LabelFileRow).delete()
    _refuse(ctx, 2)
    with pytest.raises(LabelsRefused, match=r"bad-0\.txt line 1.*bad-1\.txt"):
        cut_snapshot(ctx, TASK)


def test_without_labels_there_is_nothing_to_cut(ctx: Context) -> None:
    """A task without labels, or with too few to validate on, says what is missing."""
    with pytest.raises(CannotStart, match="Label more"):
        cut_snapshot(ctx, TASK)
    sent_and_labelled(ctx, 1)
    with pytest.raises(CannotStart, match="validate"):
        cut_snapshot(ctx, TASK)


def test_a_damaged_image_stops_the_snapshot(ctx: Context) -> None:
    """An image that changed in the bucket is found before it is packed."""
    ids = sent_and_labelled(ctx, 6)
    ctx.store.put(keys.sample_image(TASK, ids[2]), b"rotten")
    with pytest.raises(StoreMissing, match=ids[2]):
        cut_snapshot(ctx, TASK)


def test_a_damaged_manifest_is_not_read(ctx: Context) -> None:
    """A manifest that does not have the hash it is named by is refused."""
    sent_and_labelled(ctx, 6)
    snapshot = cut_snapshot(ctx, TASK)
    ctx.store.put(keys.snapshot_manifest(TASK, snapshot.snapshot_id), b"{}\n")
    with pytest.raises(CannotStart, match="damaged"):
        load_snapshot(ctx, TASK, snapshot.snapshot_id)
    with pytest.raises(CannotStart, match="none"):
        load_snapshot(ctx, TASK, "0" * 64)


def test_a_forgotten_sample_is_in_no_later_snapshot(ctx: Context) -> None:
    """Tombstones are respected, and shards that held the sample are gone (law 11)."""
    ids = sent_and_labelled(ctx, 8)
    first = cut_snapshot(ctx, TASK)
    forget(ctx, TASK, ForgetWhat(sample_id=ids[3]), by="test", reason="asked to")
    assert ctx.store.stat(first.shards[0].key) is None
    second = cut_snapshot(ctx, TASK)
    assert ids[3] not in {member.sample_id for member in second.members}
    assert all(ids[3] not in shard.samples for shard in second.shards)


def test_the_champions_snapshot_is_the_parent(ctx: Context) -> None:
    """A snapshot names the one the champion was trained on."""
    sent_and_labelled(ctx, 6)
    first = cut_snapshot(ctx, TASK)
    set_champion(
        ctx,
        TASK,
        Promotion(
            release_version=1, model_id="a" * 64, onnx_key="o", weights_key="w", weights_sha256="b" * 64,
            weights_bytes=1, class_list_version=1, reason="test", snapshot_id=first.snapshot_id, run_id="run-1",
        ),
    )  # fmt: skip
    assert cut_snapshot(ctx, TASK).header.parent_snapshot == first.snapshot_id


def test_a_kill_while_cutting_changes_nothing(ctx: Context) -> None:
    """Killed at any operation, the next cut gives the snapshot that would have been cut anyway."""
    sent_and_labelled(ctx, 6)
    done = False
    step = 0
    cut: set[str] = set()
    while not done:
        step += 1
        fuse = Fuse(at=step, after=True)
        with ctx.database.session() as session:
            session.query(ShardRow).delete()
            session.query(SnapshotRow).delete()
            session.query(SnapshotMemberRow).delete()
        try:
            cut_snapshot(doomed(ctx, fuse), TASK)
            done = True
        except Crash:
            assert fuse.blown
        cut.add(cut_snapshot(ctx, TASK).snapshot_id)
    assert step > 6
    assert len(cut) == 1


def test_five_hundred_images_are_cut_in_seconds(ctx: Context, tmp_path: Path) -> None:
    """Hashes come from the catalog and images go straight into tars, also over a real store."""
    (tmp_path / "data").mkdir()
    with rclone_store(tmp_path / "data") as store:
        real = Context(ctx.folder, ctx.settings, store, ctx.database)
        items = []
        for number in range(500):
            image, text = tmp_path / f"{number}.jpg", tmp_path / f"{number}.txt"
            image.write_bytes(picture(number, width=160, height=160))
            text.write_text(f"{number % 3} 0.5 0.5 0.2 0.2\n")
            items.append(ImportItem(str(number), image, text))
        import_dataset(real, TASK, items, ImportPolicy(class_names=CLASSES, golden_share=0.1))
        roomy = with_task(
            real, recipe=real.settings.task(TASK).recipe.model_copy(update={"replay_limit": 1000})
        )
        began = time.monotonic()
        snapshot = cut_snapshot(roomy, TASK)
        took = time.monotonic() - began
        assert len(snapshot.members) == 500
        assert len(snapshot.shards) == 2
        assert took < 20, f"{took:.1f} s"
        began = time.monotonic()
        assert cut_snapshot(roomy, TASK).snapshot_id == snapshot.snapshot_id
        assert time.monotonic() - began < 5


def test_looks_are_in_the_catalog(ctx: Context) -> None:
    """The hash that grouping needs is computed once, at ingest."""
    sent_and_labelled(ctx, 2)
    with ctx.database.reader() as session:
        looks = [row.look for row in session.scalars(select(SampleRow))]
    assert [len(look) for look in looks] == [64, 64]
    assert looks[0] != looks[1]


def test_members_name_the_camera_that_saw_them(ctx: Context) -> None:
    """The gate needs it to judge by regions that hold for one camera."""
    sent_and_labelled(ctx, 10)
    assert {member.camera for member in cut_snapshot(ctx, TASK).members} == {"top"}


def test_decision_settings_of_an_unknown_class_stop_the_cut(ctx: Context) -> None:
    """A wrong name is found before anything is rented."""
    sent_and_labelled(ctx, 10)
    decision = DecisionSettings(min_area_px={"scrach": 5.0})
    wrong = ctx.settings.task(TASK).model_copy(update={"decision": decision})
    with pytest.raises(CannotStart, match="scrach"):
        cut_snapshot(replace(ctx, settings=ctx.settings.with_task(TASK, wrong)), TASK)
