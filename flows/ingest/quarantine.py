"""Set aside what cannot be used, with the reason, so that a person can look at it later (law 10)."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import encode, keys, utc_now
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import ReceiptItem
from fleet_contracts.releases import Quarantine
from flows.context import Context
from flows.database.schema import QuarantineRow
from flows.errors import StoreMissing
from flows.ingest.verify import Refusal

log = logging.getLogger("whetstone.flows")

MAX_TORN = 3
"""Torn uploads of one sample after which the box is told to give up; until then it tries again."""


def set_aside(ctx: Context, upload: Incoming, device_id: str | None, refusal: Refusal) -> ReceiptItem | None:
    """Move an upload to the quarantine and record why.

    Returns:
        A receipt item that lets the box delete its row, or None when the bytes were torn on the way and
        the box should send its good copy again.
    """
    target = keys.quarantine(upload.task_id, f"{upload.grant_id}-{upload.sample_id}")
    # (1) the bytes are kept
    source = keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "image")
    note = keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "announcement")
    for old, new in ((source, target), (note, f"{target}.json")):
        try:
            ctx.store.copy(old, new)
        except StoreMissing:
            log.info("quarantine.nothing_to_copy key=%s", old)
    # (2) the record: in the database, and beside the bytes for people
    record = Quarantine(
        task_id=upload.task_id,
        subject=upload.sample_id,
        key=target,
        reason=refusal.reason,
        device_id=device_id,
        quarantined_at=utc_now(),
    )
    record_quarantine(ctx, record, torn=refusal.torn)
    # (3) only now the incoming objects go
    ctx.store.delete(source)
    ctx.store.delete(note)
    log.warning("ingest.quarantined sample=%s reason=%s", upload.sample_id, refusal.reason)
    with ctx.database.reader() as session:
        if not is_given_up(session, upload.task_id, upload.sample_id):
            return None
    return ReceiptItem(sample_id=upload.sample_id, outcome="quarantined", detail=refusal.reason[:500])


def was_set_aside(ctx: Context, upload: Incoming) -> bool:
    """Tell whether this very upload is in the quarantine already; what it left in `incoming/` may go."""
    key = keys.quarantine(upload.task_id, f"{upload.grant_id}-{upload.sample_id}")
    with ctx.database.reader() as session:
        found = select(QuarantineRow.id).where(
            QuarantineRow.task_id == upload.task_id, QuarantineRow.key == key
        )
        return session.scalars(found).first() is not None


def is_given_up(session: Session, task_id: str, sample_id: str) -> bool:
    """Tell whether a sample was refused for good: for what it is, or because it kept arriving torn."""
    torn = list(
        session.scalars(
            select(QuarantineRow.torn).where(
                QuarantineRow.task_id == task_id, QuarantineRow.subject == sample_id
            )
        )
    )
    return not all(torn) or len(torn) >= MAX_TORN


def record_quarantine(ctx: Context, record: Quarantine, *, torn: bool = False) -> None:
    """Write a quarantine record to journal and database; of the same subject and key the newest stays."""
    name = record.key.rsplit("/", 1)[-1]
    ctx.store.put(keys.journal(record.task_id, "quarantine", name), encode(record))
    with ctx.database.session() as session:
        known = session.scalars(
            select(QuarantineRow).where(
                QuarantineRow.task_id == record.task_id,
                QuarantineRow.subject == record.subject,
                QuarantineRow.key == record.key,
            )
        ).first()
        if known is not None:
            known.reason = record.reason
            return
        session.add(
            QuarantineRow(
                task_id=record.task_id,
                subject=record.subject,
                key=record.key,
                reason=record.reason,
                device_id=record.device_id,
                torn=torn,
                quarantined_at=record.quarantined_at,
            )
        )
