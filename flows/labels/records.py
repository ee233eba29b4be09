"""Turn labels into records: one numbered revision after the other, in bucket and catalog.

A revision is never changed. The same labels again make no new revision, so importing twice has the effect
of once (law 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.samples import BoxLabel, LabelRecord
from flows.catalog.samples import label_content_sha256, newest_label, put_label
from flows.context import Context


@dataclass(frozen=True, slots=True)
class NewLabel:
    """Hold what somebody says about one sample."""

    sample_id: str
    class_list_version: int
    boxes: tuple[BoxLabel, ...]
    labelled_by: str
    source: Literal["human", "teacher", "operator"] = "human"
    verified: bool = True
    imported: bool = False


def add_labels(ctx: Context, task_id: str, labels: list[NewLabel]) -> int:
    """Record labels of committed samples in one transaction.

    Returns:
        How many were new; labels that say what the newest revision says already are left out.
    """
    if not labels:
        return 0
    with ctx.database.session() as session:
        records = [record for label in labels if (record := _next(session, task_id, label)) is not None]
        # The bucket before the commit: after a crash in between, the same call writes the same revision
        # again; the other way round the catalog would know a label that the bucket does not have.
        for record in records:
            ctx.store.put(keys.label(task_id, record.sample_id, record.revision), encode(record))
    return len(records)


def _next(session: Session, task_id: str, label: NewLabel) -> LabelRecord | None:
    newest = newest_label(session, task_id, label.sample_id)
    record = LabelRecord(
        task_id=task_id,
        sample_id=label.sample_id,
        revision=1 if newest is None else newest.revision + 1,
        class_list_version=label.class_list_version,
        boxes=label.boxes,
        source=label.source,
        verified=label.verified,
        imported=label.imported,
        labelled_by=label.labelled_by,
        labelled_at=utc_now(),
    )
    if newest is not None and newest.content_sha256 == label_content_sha256(record):
        return None
    put_label(session, record)
    session.flush()
    return record
