"""Forget samples (law 11): out of bucket and catalog, with a tombstone that nothing brings back.

(1) the tombstones, in bucket and database: from here on uploads, labels and snapshots leave the samples out
(2) the record, with the models that were trained on them
(3) images, sidecars, labels, waiting uploads and quarantined bytes, pictures the gate drew, shards that hold
    one of them (a later snapshot packs the others anew), and the copies that runs keep in the work folder
(4) the catalog rows, by which an interrupted command finds what it still has to do

Killed in between, the same command finishes the work. Probe images in signed releases remain: a release is
never changed, so the record names those concerned. Boxes that still hold such a sample are told
"forgotten" when they ask for a grant, and drop it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleet_contracts import Value, encode, keys, utc_now
from flows.context import Context
from flows.database.schema import (
    CandidateRow,
    ChampionRow,
    LabelRow,
    QuarantineRow,
    RunRow,
    SampleRow,
    ShardRow,
    SightingRow,
    SnapshotMemberRow,
    TombstoneRow,
)
from flows.errors import FlowsError

log = logging.getLogger("whetstone.flows")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ForgetWhat:
    """Name what to forget: one sample, or what a device saw, or what was seen in a span of time."""

    sample_id: str | None = None
    device_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class ForgetReport(Value):
    """Say what was forgotten, and which models were trained on it."""

    task_id: str
    samples: tuple[str, ...]
    snapshots: tuple[str, ...]
    runs: tuple[str, ...]
    models: tuple[str, ...]
    releases: tuple[int, ...]
    """Releases that serve or served such a model; their probe images may be among the samples."""
    forgotten_at: datetime
    forgotten_by: str
    reason: str


def forget(ctx: Context, task_id: str, what: ForgetWhat, *, by: str, reason: str) -> ForgetReport:
    """Forget samples for good and return what that concerns.

    Raises:
        FlowsError: nothing was named; forgetting a whole task is not done by leaving everything out.
        StoreAway, DatabaseAway: run the command again; it goes on where it stopped.
    """
    if what == ForgetWhat():
        raise FlowsError(
            expected="a sample, device or time span", got="none of them", where=f"task {task_id}"
        )
    with ctx.database.reader() as session:
        sample_ids = _named(session, task_id, what)
    now = utc_now()
    # (1)
    for sample_id in sample_ids:
        ctx.store.put(keys.tombstone(task_id, sample_id), _tombstone(task_id, sample_id, reason, by, now))
    with ctx.database.session() as session:
        for sample_id in sample_ids:
            if session.get(TombstoneRow, (task_id, sample_id)) is None:
                session.add(
                    TombstoneRow(
                        task_id=task_id, sample_id=sample_id, reason=reason, forgotten_by=by, forgotten_at=now
                    )
                )
        report = _concerned(session, task_id, sample_ids, _Record(now, by, reason))
    # (2)
    name = now.strftime("%Y%m%dT%H%M%S%f")
    ctx.store.put(keys.journal(task_id, "forgotten", name), encode(report))
    # (3) the work folder first: the catalog's shards tell what to look for there
    _clear_work(ctx, task_id, frozenset(sample_ids))
    _clear_bucket(ctx, task_id, frozenset(sample_ids))
    # (4)
    with ctx.database.session() as session:
        for sample_id in sample_ids:
            for table in (SightingRow, LabelRow, SampleRow):
                session.execute(delete(table).filter_by(task_id=task_id, sample_id=sample_id))
    log.info("forget.done task=%s samples=%d models=%d", task_id, len(sample_ids), len(report.models))
    return report


@dataclass(frozen=True, slots=True)
class _Record:
    at: datetime
    by: str
    reason: str


def _named(session: Session, task_id: str, what: ForgetWhat) -> list[str]:
    if what.sample_id is not None:
        return [what.sample_id]
    query = select(SightingRow.sample_id).where(SightingRow.task_id == task_id).distinct()
    if what.device_id is not None:
        query = query.where(SightingRow.device_id == what.device_id)
    if what.since is not None:
        query = query.where(SightingRow.captured_at >= what.since)
    if what.until is not None:
        query = query.where(SightingRow.captured_at < what.until)
    return sorted(session.scalars(query))


def _tombstone(task_id: str, sample_id: str, reason: str, by: str, now: datetime) -> bytes:
    record = Value.model_validate(
        {
            "schema_version": 1,
            "task_id": task_id,
            "sample_id": sample_id,
            "reason": reason,
            "forgotten_by": by,
            "forgotten_at": now.isoformat(),
        }
    )
    return encode(record)


def _concerned(session: Session, task_id: str, sample_ids: list[str], record: _Record) -> ForgetReport:
    members = session.scalars(
        select(SnapshotMemberRow.snapshot_id)
        .where(SnapshotMemberRow.task_id == task_id, SnapshotMemberRow.sample_id.in_(sample_ids))
        .distinct()
    )
    snapshots = sorted(members)
    runs = sorted(
        session.scalars(
            select(RunRow.run_id).where(RunRow.task_id == task_id, RunRow.snapshot_id.in_(snapshots))
        )
    )
    candidates = session.scalars(
        select(CandidateRow).where(CandidateRow.task_id == task_id, CandidateRow.run_id.in_(runs))
    ).all()
    champions = session.scalars(
        select(ChampionRow).where(ChampionRow.task_id == task_id, ChampionRow.snapshot_id.in_(snapshots))
    ).all()
    versions = {row.release_version for row in candidates} | {row.release_version for row in champions}
    models = {row.model_id for row in candidates} | {row.model_id for row in champions}
    return ForgetReport(
        task_id=task_id,
        samples=tuple(sample_ids),
        snapshots=tuple(snapshots),
        runs=tuple(runs),
        models=tuple(sorted(models)),
        releases=tuple(sorted(version for version in versions if version is not None)),
        forgotten_at=record.at,
        forgotten_by=record.by,
        reason=record.reason,
    )


def _clear_work(ctx: Context, task_id: str, sample_ids: frozenset[str]) -> None:
    gone = sample_ids | {shard.sha256 for shard in _shards_with(ctx, task_id, sample_ids)}
    drawn = _drawn(sample_ids)
    for folder, _, names in os.walk(ctx.folder / "work"):
        for name in names:
            # By the hash within the name: beside the images lie decoded ones, and halves of downloads.
            if name in drawn or not gone.isdisjoint(_HASH.findall(name)):
                Path(folder, name).unlink(missing_ok=True)


def _drawn(sample_ids: Iterable[str]) -> frozenset[str]:
    """Return what the gate calls its pictures of these samples; a name may be another sample's as well."""
    return frozenset(f"change-{sample_id[:12]}.jpg" for sample_id in sample_ids)


def _shards_with(ctx: Context, task_id: str, sample_ids: frozenset[str]) -> list[ShardRow]:
    with ctx.database.reader() as session:
        shards = session.scalars(select(ShardRow).where(ShardRow.task_id == task_id)).all()
    return [shard for shard in shards if not sample_ids.isdisjoint(shard.samples)]


def _clear_bucket(ctx: Context, task_id: str, sample_ids: frozenset[str]) -> None:
    for sample_id in sample_ids:
        # The sidecar first: without it the sample does not exist.
        ctx.store.delete(keys.sample_sidecar(task_id, sample_id))
        ctx.store.delete(keys.sample_image(task_id, sample_id))
        for info in list(ctx.store.list(f"{keys.task(task_id)}/labels/{sample_id}/")):
            ctx.store.delete(info.key)
    for folder in ("incoming", "quarantine"):
        for info in list(ctx.store.list(f"{keys.task(task_id)}/{folder}/")):
            if any(sample_id in info.key for sample_id in sample_ids):
                ctx.store.delete(info.key)
    drawn = _drawn(sample_ids)
    for info in list(ctx.store.list(f"{keys.task(task_id)}/candidates/")):
        if info.key.rsplit("/", 1)[-1] in drawn:
            ctx.store.delete(info.key)
    for shard in _shards_with(ctx, task_id, sample_ids):
        ctx.store.delete(keys.shard(task_id, shard.sha256))
        with ctx.database.session() as session:
            session.execute(
                delete(ShardRow).where(ShardRow.task_id == task_id, ShardRow.list_sha256 == shard.list_sha256)
            )
    with ctx.database.session() as session:
        session.execute(
            delete(QuarantineRow).where(
                QuarantineRow.task_id == task_id, QuarantineRow.subject.in_(sample_ids)
            )
        )
