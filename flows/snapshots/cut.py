"""Cut a snapshot: what is labelled now, split without leaks, immutable under the hash of its manifest.

Cutting the same data twice gives the same snapshot, so a flow that was killed cuts again and goes on.

(1) read the catalog in one transaction: samples, newest labels, sightings, earlier splits
(2) refuse when too many labels were refused
(3) group near-duplicates and bursts, choose splits and members
(4) pack the images into shards
(5) write the manifest: from here on the snapshot exists
(6) record it in the catalog
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import keys, utc_now
from fleet_contracts.manifest import encode_manifest
from fleet_contracts.samples import BoxLabel, ClassList
from fleet_contracts.training import SnapshotHeader, SnapshotMember
from flows.catalog.samples import IMPORT_DEVICE, LabelledSample, SeenFrame, labelled_samples, seen_frames
from flows.champion import champion_in
from flows.classes import newest
from flows.context import Context
from flows.database.schema import ClassListRow, SnapshotMemberRow, SnapshotRow
from flows.errors import CannotStart
from flows.labels.refused import refused_files
from flows.settings import TaskSettings
from flows.snapshots import groups
from flows.snapshots.lint import require_sound
from flows.snapshots.shards import Shard, pack_shards
from flows.snapshots.splits import Split, SplitItem, SplitPolicy, choose_members

log = logging.getLogger("whetstone.flows")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hold a cut snapshot."""

    snapshot_id: str
    header: SnapshotHeader
    members: tuple[SnapshotMember, ...]
    shards: tuple[Shard, ...]

    def of_split(self, split: Split) -> tuple[SnapshotMember, ...]:
        """Return the members of one split."""
        return tuple(member for member in self.members if member.split == split)


@dataclass(frozen=True, slots=True)
class _Material:
    class_list: ClassList
    class_counts: dict[int, int]
    labelled: list[LabelledSample]
    frames: dict[str, list[SeenFrame]]
    earlier: dict[str, Split]
    parent: str | None


@dataclass(frozen=True, slots=True)
class _Draft:
    snapshot: Snapshot
    manifest: bytes
    material: _Material


def cut_snapshot(ctx: Context, task_id: str) -> Snapshot:
    """Cut a snapshot of everything that is labelled now.

    Raises:
        LabelsRefused: too many label files are refused; the message lists them.
        CannotStart: there is nothing to train on, or nothing to validate on.
        StoreMissing: an image the catalog names is gone or damaged.
    """
    # (1) to (3)
    draft = _draft(ctx, task_id)
    drawn = draft.snapshot
    # (4) golden images stay out of the shards: what a trainer does not have it cannot train on
    splits = {member.sample_id: member.split for member in drawn.members}
    packed = [
        item.sample
        for item in draft.material.labelled
        if splits.get(item.sample.sample_id) in ("train", "val")
    ]
    shards = pack_shards(ctx, task_id, packed)
    # (5)
    ctx.store.put(keys.snapshot_manifest(task_id, drawn.snapshot_id), draft.manifest)
    # (6)
    snapshot = replace(drawn, shards=shards)
    record_snapshot(ctx, snapshot)
    log.info("snapshot.cut task=%s snapshot=%s members=%d", task_id, drawn.snapshot_id, len(drawn.members))
    return snapshot


def draft_snapshot(ctx: Context, task_id: str) -> Snapshot:
    """Return the snapshot that would be cut now, without shards; nothing is written.

    Raises:
        LabelsRefused, CannotStart: as `cut_snapshot`.
    """
    return _draft(ctx, task_id).snapshot


def _draft(ctx: Context, task_id: str) -> _Draft:
    settings = ctx.settings.task(task_id)
    # (1)
    material = _read(ctx, task_id)
    require_decides(settings, material.class_list, task_id)
    # (2)
    mined = sum(not item.label.imported for item in material.labelled)
    require_sound(
        refused_files(ctx, task_id), mined, settings.max_refused_share, where=f"labels of task {task_id}"
    )
    # (3)
    members = _members(material, settings, task_id)
    _require_both(members, task_id)
    header = SnapshotHeader(
        task_id=task_id,
        class_list=material.class_list,
        parent_snapshot=material.parent,
        members=len(members),
        policy={
            "val_share": settings.val_share,
            "golden_share": settings.golden_share,
            "replay_limit": settings.recipe.replay_limit,
            "near_bits": groups.NEAR,
            "burst_seconds": groups.BURST_SECONDS,
        },
    )
    snapshot_id, manifest = encode_manifest(header, members)
    ordered = tuple(sorted(members, key=lambda member: member.sample_id))
    return _Draft(Snapshot(snapshot_id, header, ordered, ()), manifest, material)


def record_snapshot(ctx: Context, snapshot: Snapshot) -> None:
    """Write a snapshot into the catalog; one that is there is left as it is."""
    task_id = snapshot.header.task_id
    with ctx.database.session() as session:
        if session.get(SnapshotRow, (task_id, snapshot.snapshot_id)) is not None:
            return
        session.add(
            SnapshotRow(
                task_id=task_id,
                snapshot_id=snapshot.snapshot_id,
                parent_snapshot=snapshot.header.parent_snapshot,
                members=len(snapshot.members),
                class_list_version=snapshot.header.class_list.version,
                shards=[shard.to_json() for shard in snapshot.shards],
                cut_at=utc_now(),
            )
        )
        session.add_all(
            SnapshotMemberRow(
                task_id=task_id,
                snapshot_id=snapshot.snapshot_id,
                sample_id=member.sample_id,
                revision=member.label_revision,
                split=member.split,
            )
            for member in snapshot.members
        )


def _read(ctx: Context, task_id: str) -> _Material:
    with ctx.database.reader() as session:
        class_list = newest(session, task_id)
        if class_list is None:
            raise CannotStart(expected="a class list", got="none", where=f"task {task_id}")
        champion = champion_in(session, task_id)
        lists = session.scalars(select(ClassListRow).where(ClassListRow.task_id == task_id))
        counts = {row.version: len(row.names) for row in lists}
        frames: dict[str, list[SeenFrame]] = {}
        for frame in seen_frames(session, task_id):
            frames.setdefault(frame.sample_id, []).append(frame)
        return _Material(
            class_list=class_list,
            class_counts=counts,
            labelled=labelled_samples(session, task_id),
            frames=frames,
            earlier=_earlier_splits(session, task_id),
            parent=None if champion is None else champion.snapshot_id,
        )


def _earlier_splits(session: Session, task_id: str) -> dict[str, Split]:
    # Once golden always golden; once trained on never validated on.
    strength: dict[Split, int] = {"val": 0, "train": 1, "golden": 2}
    rows = session.execute(
        select(SnapshotMemberRow.sample_id, SnapshotMemberRow.split)
        .where(SnapshotMemberRow.task_id == task_id)
        .distinct()
    )
    found: dict[str, Split] = {}
    for sample_id, split in rows:
        if sample_id not in found or strength[split] > strength[found[sample_id]]:
            found[sample_id] = split
    return found


def _members(material: _Material, settings: TaskSettings, task_id: str) -> list[SnapshotMember]:
    group_of = groups.group_samples(
        [_group_item(item, material.frames.get(item.sample.sample_id, [])) for item in material.labelled]
    )
    policy = SplitPolicy(
        settings.val_share, settings.golden_share, settings.recipe.replay_limit, salt=task_id
    )
    items = [
        SplitItem(
            sample_id=item.sample.sample_id,
            group_id=group_of[item.sample.sample_id],
            classes=frozenset(int(box["class_id"]) for box in item.label.boxes),
            verified=item.label.verified,
            imported=item.sample.origin == "import",
            pinned=item.sample.pinned_split,
            before=material.earlier.get(item.sample.sample_id),
        )
        for item in material.labelled
    ]
    chosen = choose_members(items, policy)
    return [
        _member(item, group_of[item.sample.sample_id], chosen[item.sample.sample_id], material)
        for item in material.labelled
        if item.sample.sample_id in chosen
    ]


def _group_item(item: LabelledSample, frames: list[SeenFrame]) -> groups.GroupItem:
    seen = tuple(
        groups.Seen(frame.device_id, frame.camera, frame.captured_at, frame.part_id) for frame in frames
    )
    timed = all(frame.device_id != IMPORT_DEVICE for frame in frames)
    return groups.GroupItem(item.sample.sample_id, item.sample.look, seen, timed)


def _member(item: LabelledSample, group_id: str, split: Split, material: _Material) -> SnapshotMember:
    sample, label = item.sample, item.label
    return SnapshotMember(
        sample_id=sample.sample_id,
        split=split,
        group_id=group_id,
        label_revision=label.revision,
        class_list_version=label.class_list_version,
        class_count=material.class_counts[label.class_list_version],
        verified=label.verified,
        source=label.source,
        boxes=tuple(BoxLabel.model_validate(box) for box in label.boxes),
        width=sample.width,
        height=sample.height,
        size_bytes=sample.size_bytes,
        origin=sample.origin,
        slices=sample.slices,
        camera=_camera(material.frames.get(sample.sample_id, [])),
    )


def _camera(frames: list[SeenFrame]) -> str:
    """Return the camera that saw a sample first, "" when none is known: imported images name none."""
    return next((frame.camera for frame in frames if frame.device_id != IMPORT_DEVICE), "")


def require_decides(settings: TaskSettings, class_list: ClassList, task_id: str) -> None:
    """Refuse decision settings that the gate could not use, before anything is rented.

    Raises:
        CannotStart: a least area for a class that the task does not have.
    """
    unknown = sorted(set(settings.decision.min_area_px) - set(class_list.names))
    if unknown:
        raise CannotStart(
            expected=f"decision.min_area_px for classes of {list(class_list.names)}",
            got=f"one for {unknown}",
            where=f"task {task_id}",
            now="Correct the name in whetstone.toml, or add the class with 'whetstone classes add'.",
        )


def _require_both(members: list[SnapshotMember], task_id: str) -> None:
    for split in ("train", "val"):
        if not any(member.split == split for member in members):
            raise CannotStart(
                expected=f"labelled samples to {'train' if split == 'train' else 'validate'} on",
                got=f"{len(members)} labelled samples, none of them for that",
                where=f"task {task_id}",
                now="Label more samples.",
            )
