"""Rebuild the catalog's view of a task from the bucket, which is the truth for samples and labels.

What the database alone knows (champion, runs, rollouts, grants) is not touched. Rebuilding a catalog that
is in order changes nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import select

from fleet_contracts import ContractError, WireDocument, decode, keys, utc_now
from fleet_contracts.manifest import decode_manifest
from fleet_contracts.samples import ClassList, HardExample, LabelRecord
from flows.catalog.samples import find_sample, is_forgotten, put_label, put_sample
from flows.context import Context
from flows.database.schema import ClassListRow, SampleRow, SnapshotRow, TombstoneRow
from flows.errors import StoreMissing
from flows.snapshots.cut import Snapshot, record_snapshot

log = logging.getLogger("whetstone.flows")
D = TypeVar("D", bound=WireDocument)

THREADS = 8
BATCH = 200
_MANIFEST = re.compile(r"/snapshots/([0-9a-f]{64})/manifest\.jsonl$")
_TOMBSTONE = re.compile(r"/tombstones/([0-9a-f]{64})\.json$")


@dataclass(slots=True)
class RebuildReport:
    """Say what was found in the bucket; `problems` names every object that could not be used."""

    class_lists: int = 0
    tombstones: int = 0
    samples: int = 0
    labels: int = 0
    snapshots: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)


def rebuild_catalog(ctx: Context, task_id: str) -> RebuildReport:
    """Read every document of a task from the bucket and bring the catalog to what they say."""
    report = RebuildReport()
    # (1) tombstones first, so that nothing forgotten comes back
    _tombstones(ctx, task_id, report)
    # (2) class lists, samples, and then the labels that speak of both
    _class_lists(ctx, task_id, report)
    seen = _samples(ctx, task_id, report)
    _labels(ctx, task_id, report)
    # (3) snapshots
    _snapshots(ctx, task_id, report)
    # (4) rows whose sample the bucket does not have
    _remove_strangers(ctx, task_id, seen, report)
    log.info("catalog.rebuilt task=%s samples=%d labels=%d", task_id, report.samples, report.labels)
    return report


def _documents(ctx: Context, prefix: str, kind: type[D], report: RebuildReport) -> Iterator[list[D]]:
    def read(key: str) -> D | None:
        try:
            return decode(kind, ctx.store.get(key), where=key)
        except (ContractError, StoreMissing) as error:
            report.problems.append(str(error))
            return None

    found = [info.key for info in ctx.store.list(prefix) if info.key.endswith(".json")]
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(found), BATCH):
            documents = pool.map(read, found[start : start + BATCH])
            yield [document for document in documents if document is not None]


def _tombstones(ctx: Context, task_id: str, report: RebuildReport) -> None:
    ids = [
        found[1]
        for info in ctx.store.list(f"{keys.task(task_id)}/tombstones/")
        if (found := _TOMBSTONE.search(info.key))
    ]
    with ctx.database.session() as session:
        for sample_id in ids:
            if not is_forgotten(session, task_id, sample_id):
                session.add(
                    TombstoneRow(
                        task_id=task_id,
                        sample_id=sample_id,
                        reason="found in the bucket",
                        forgotten_by="catalog rebuild",
                        forgotten_at=utc_now(),
                    )
                )
    report.tombstones = len(ids)


def _class_lists(ctx: Context, task_id: str, report: RebuildReport) -> None:
    for documents in _documents(ctx, f"{keys.task(task_id)}/classes/", ClassList, report):
        with ctx.database.session() as session:
            for document in documents:
                if session.get(ClassListRow, (task_id, document.version)) is None:
                    session.add(
                        ClassListRow(
                            task_id=task_id,
                            version=document.version,
                            names=list(document.names),
                            added_by="catalog rebuild",
                            reason="found in the bucket",
                            added_at=utc_now(),
                        )
                    )
        report.class_lists += len(documents)


def _samples(ctx: Context, task_id: str, report: RebuildReport) -> set[str]:
    seen: set[str] = set()
    for documents in _documents(ctx, f"{keys.task(task_id)}/samples/", HardExample, report):
        with ctx.database.session() as session:
            for document in documents:
                if is_forgotten(session, task_id, document.sample_id):
                    continue
                put_sample(session, document)
                seen.add(document.sample_id)
    report.samples = len(seen)
    return seen


def _labels(ctx: Context, task_id: str, report: RebuildReport) -> None:
    for documents in _documents(ctx, f"{keys.task(task_id)}/labels/", LabelRecord, report):
        with ctx.database.session() as session:
            for document in documents:
                if find_sample(session, task_id, document.sample_id) is None:
                    continue
                put_label(session, document)
                report.labels += 1


def _snapshots(ctx: Context, task_id: str, report: RebuildReport) -> None:
    for info in list(ctx.store.list(f"{keys.task(task_id)}/snapshots/")):
        found = _MANIFEST.search(info.key)
        if found is None:
            continue
        with ctx.database.reader() as session:
            known = session.get(SnapshotRow, (task_id, found[1])) is not None
        report.snapshots += 1
        if known:
            continue
        try:
            header, members = decode_manifest(ctx.store.get(info.key), where=info.key)
        except (ContractError, StoreMissing) as error:
            report.problems.append(str(error))
            continue
        record_snapshot(ctx, Snapshot(found[1], header, members, ()))


def _remove_strangers(ctx: Context, task_id: str, seen: set[str], report: RebuildReport) -> None:
    with ctx.database.session() as session:
        for row in session.scalars(select(SampleRow).where(SampleRow.task_id == task_id)):
            if row.sample_id in seen:
                continue
            # A sample may have been committed since its prefix was listed.
            if ctx.store.stat(keys.sample_sidecar(task_id, row.sample_id)) is None:
                session.delete(row)
                report.removed += 1
