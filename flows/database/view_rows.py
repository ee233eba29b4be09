"""Describe the catalog: the database's view of samples, labels and snapshots in the bucket.

One command rebuilds it (`flows.catalog.rebuild`). Sample, label, class list, snapshot and tombstone each have
their document in the bucket; the rest is remembered to save work.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ForeignKeyConstraint, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from flows.database.base import NAME, SHA, TASK, Base

Origin = Literal["mined", "import", "capture"]
Split = Literal["train", "val", "golden"]
LabelSource = Literal["human", "teacher", "operator"]


class SampleRow(Base):
    """Hold one committed sample; `look` is its perceptual hash, computed once at ingest."""

    __tablename__ = "samples"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    sample_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    media_type: Mapped[str] = mapped_column(NAME)
    look: Mapped[str] = mapped_column(String(256))
    origin: Mapped[Origin] = mapped_column(String(16))
    pinned_split: Mapped[Split | None] = mapped_column(String(16))
    """For imported samples: `golden`, or `train` for those that are never judged on."""
    model_id: Mapped[str | None] = mapped_column(SHA)
    release_version: Mapped[int] = mapped_column(default=0)
    decision: Mapped[str] = mapped_column(String(16), default="unsure")
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    """Names of the rules that kept the frame."""
    slices: Mapped[dict[str, str]] = mapped_column(default=dict)
    keep_until: Mapped[datetime]
    committed_at: Mapped[datetime]


class SightingRow(Base):
    """Hold where and when a sample was seen."""

    __tablename__ = "sightings"
    __table_args__ = (
        UniqueConstraint(
            "task_id", "sample_id", "device_id", "camera", "captured_at", "part_id", "frame_in_part"
        ),
        ForeignKeyConstraint(
            ["task_id", "sample_id"], ["samples.task_id", "samples.sample_id"], ondelete="CASCADE"
        ),
        Index("sightings_by_part", "task_id", "part_id"),
        Index("sightings_by_device", "task_id", "device_id", "captured_at"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(TASK)
    sample_id: Mapped[str] = mapped_column(SHA)
    device_id: Mapped[str] = mapped_column(TASK)
    camera: Mapped[str] = mapped_column(NAME)
    captured_at: Mapped[datetime]
    part_id: Mapped[str] = mapped_column(NAME)
    frame_in_part: Mapped[int]


class LabelRow(Base):
    """Hold one revision of a sample's labels; the newest revision is the one that counts."""

    __tablename__ = "labels"
    __table_args__ = (
        ForeignKeyConstraint(
            ["task_id", "sample_id"], ["samples.task_id", "samples.sample_id"], ondelete="CASCADE"
        ),
    )
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    sample_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    class_list_version: Mapped[int]
    boxes: Mapped[list[Any]]
    source: Mapped[LabelSource] = mapped_column(String(16))
    verified: Mapped[bool]
    imported: Mapped[bool] = mapped_column(default=False)
    """True for labels that came with old data; they never count toward the trigger."""
    labelled_by: Mapped[str] = mapped_column(NAME)
    labelled_at: Mapped[datetime]
    content_sha256: Mapped[str] = mapped_column(SHA)


class LabelFileRow(Base):
    """Remember a label file, so that the same file is read once and a bad one is listed."""

    __tablename__ = "label_files"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    content_sha256: Mapped[str] = mapped_column(SHA)
    state: Mapped[str] = mapped_column(String(16))
    """`accepted`, `refused`, or `waiting` for a sample that has not arrived."""
    reason: Mapped[str] = mapped_column(Text, default="")
    stamp: Mapped[str] = mapped_column(NAME)
    """Modification time (ns) and size: while they stand, the file is not read again."""
    class_list_version: Mapped[int] = mapped_column(default=0)
    previous_version: Mapped[int] = mapped_column(default=0)
    """For `classes.txt`: the version it named before; files older than it speak of that one."""
    seen_at: Mapped[datetime]


class ClassListRow(Base):
    """Hold one version of a task's class list (law 9)."""

    __tablename__ = "class_lists"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    names: Mapped[list[Any]]
    added_by: Mapped[str] = mapped_column(NAME)
    reason: Mapped[str] = mapped_column(Text)
    added_at: Mapped[datetime]


class SnapshotRow(Base):
    """Hold one cut snapshot; `shards` lists its tars as `{sha256, key, size_bytes, samples}`."""

    __tablename__ = "snapshots"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    snapshot_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    parent_snapshot: Mapped[str | None] = mapped_column(SHA)
    members: Mapped[int]
    class_list_version: Mapped[int]
    shards: Mapped[list[Any]]
    cut_at: Mapped[datetime]


class SnapshotMemberRow(Base):
    """Say which label revision of which sample a snapshot holds, so that new labels can be counted."""

    __tablename__ = "snapshot_members"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    snapshot_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    sample_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    revision: Mapped[int]
    split: Mapped[Split] = mapped_column(String(16))


class ShardRow(Base):
    """Remember a tar of sample images by the list of its samples, so that it is packed once."""

    __tablename__ = "shards"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    list_sha256: Mapped[str] = mapped_column(SHA, primary_key=True)
    """SHA-256 of the sample ids, in order, one a line."""
    sha256: Mapped[str] = mapped_column(SHA)
    size_bytes: Mapped[int]
    samples: Mapped[list[Any]]


class TombstoneRow(Base):
    """Mark a forgotten sample, which no upload, label or snapshot may bring back (law 11)."""

    __tablename__ = "tombstones"
    task_id: Mapped[str] = mapped_column(TASK, primary_key=True)
    sample_id: Mapped[str] = mapped_column(SHA, primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    forgotten_by: Mapped[str] = mapped_column(NAME)
    forgotten_at: Mapped[datetime]
