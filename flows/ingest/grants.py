"""Answer grant requests: presigned PUT URLs for what is wanted, receipts for what needs no upload."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_contracts import keys, utc_now
from fleet_contracts.messages import Grant, GrantedUpload, GrantItem, GrantRequest, ReceiptItem
from flows.catalog.samples import is_forgotten, known_samples
from flows.context import Context
from flows.database.schema import GrantRow
from flows.ingest.quarantine import is_given_up


@dataclass(frozen=True, slots=True)
class GrantAnswer:
    """Hold both answers to a request; either may be empty."""

    grant: Grant | None
    receipts: tuple[ReceiptItem, ...]


def answer_request(ctx: Context, request: GrantRequest, now: datetime | None = None) -> GrantAnswer:
    """Grant uploads; the same request asked twice gets the same grant with fresh URLs.

    Returns:
        Nothing at all when the request has outlived itself: the box asks again with a new one.

    Raises:
        UnknownTask: this installation does not serve the request's task.
    """
    ctx.settings.task(request.task_id)
    now = now or utc_now()
    if request.expires_at <= now:
        return GrantAnswer(None, ())
    whole = _whole(ctx, request)
    with ctx.database.session() as session:
        receipts = _settled(session, request, whole)
        settled = {item.sample_id for item in receipts}
        wanted = [item for item in request.items if item.sample_id not in settled]
        grant = _grant_row(session, request, wanted, now, ctx.settings.grant_minutes) if wanted else None
    if grant is None:
        return GrantAnswer(None, tuple(receipts))
    uploads = tuple(_sign(ctx, grant, item.sample_id, now) for item in wanted)
    document = Grant(
        task_id=request.task_id,
        device_id=request.device_id,
        request_id=request.request_id,
        grant_id=grant.grant_id,
        expires_at=grant.expires_at,
        uploads=uploads,
    )
    return GrantAnswer(document, tuple(receipts))


def _whole(ctx: Context, request: GrantRequest) -> set[str]:
    """Return which samples the bucket really has: the catalog is a view, and a store may lose a write."""
    ids = [item.sample_id for item in request.items]
    with ctx.database.reader() as session:
        known = known_samples(session, request.task_id, ids)
    return {sample_id for sample_id in known if _is_whole(ctx, request.task_id, sample_id)}


def _is_whole(ctx: Context, task_id: str, sample_id: str) -> bool:
    found = (
        ctx.store.stat(keys.sample_image(task_id, sample_id)),
        ctx.store.stat(keys.sample_sidecar(task_id, sample_id)),
    )
    return all(info is not None and info.size > 0 for info in found)


def _settled(session: Session, request: GrantRequest, whole: set[str]) -> list[ReceiptItem]:
    settled: list[ReceiptItem] = []
    for sample_id in (item.sample_id for item in request.items):
        if is_forgotten(session, request.task_id, sample_id):
            settled.append(ReceiptItem(sample_id=sample_id, outcome="forgotten"))
        elif sample_id in whole:
            settled.append(ReceiptItem(sample_id=sample_id, outcome="duplicate"))
        elif is_given_up(session, request.task_id, sample_id):
            settled.append(ReceiptItem(sample_id=sample_id, outcome="quarantined"))
    return settled


def _grant_row(
    session: Session, request: GrantRequest, wanted: list[GrantItem], now: datetime, minutes: int
) -> GrantRow:
    row = session.scalars(
        select(GrantRow).where(
            GrantRow.task_id == request.task_id,
            GrantRow.device_id == request.device_id,
            GrantRow.request_id == request.request_id,
        )
    ).first()
    if row is None:
        row = GrantRow(
            grant_id=uuid.uuid4().hex,
            task_id=request.task_id,
            device_id=request.device_id,
            request_id=request.request_id,
            granted_at=now,
            items=[],
            expires_at=now + timedelta(minutes=minutes),
        )
        session.add(row)
    promised = {str(sample_id): int(size) for sample_id, size in row.items}
    promised.update({item.sample_id: item.size_bytes for item in wanted})
    row.items = [[sample_id, size] for sample_id, size in promised.items()]
    row.expires_at = now + timedelta(minutes=minutes)
    return row


def _sign(ctx: Context, grant: GrantRow, sample_id: str, now: datetime) -> GrantedUpload:
    left = max(grant.expires_at - now, timedelta(seconds=1))
    image = keys.incoming(grant.task_id, grant.grant_id, sample_id, "image")
    announcement = keys.incoming(grant.task_id, grant.grant_id, sample_id, "announcement")
    return GrantedUpload(
        sample_id=sample_id,
        image_url=ctx.store.presign_put(image, left),
        announcement_url=ctx.store.presign_put(announcement, left),
    )
