"""Bring one upload from `incoming/` into `samples/` and the catalog; the numbered heart of ingest.

Killed between any two steps, the same call finishes the work: nothing is deleted before the catalog has it.

(0) a tombstone wins over everything
(1) a sample that is committed already only gains sightings; one whose sidecar was lost since (power cut) is
    stored again from the upload
(2) the upload is complete: image and announcement are both there
(3) it is what was promised: size, SHA-256, decodes, speaks of itself
(4) the image is stored under our own key: from the verified bytes, never by a copy inside the bucket,
    because the presigned PUT may still write to the incoming key
(5) the sidecar is stored: from here on the sample exists (law 2)
(6) the catalog row is committed, unless a tombstone appeared meanwhile
(7) the incoming objects are removed; only now the caller may send a receipt
"""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import select

from fleet_contracts import decode, encode, keys, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import ReceiptItem
from fleet_contracts.samples import HardExample, Sighting
from flows.catalog.samples import find_sample, is_forgotten, merge_sightings, put_sample, put_sightings
from flows.context import Context
from flows.database.schema import GrantRow, SampleRow, SightingRow
from flows.errors import StoreMissing
from flows.ingest.quarantine import set_aside
from flows.ingest.verify import (
    ImageFacts,
    Promise,
    Refusal,
    check_example,
    check_image,
    check_size,
)

log = logging.getLogger("whetstone.flows")


def commit_upload(ctx: Context, upload: Incoming) -> ReceiptItem | None:
    """Take in one upload and say what became of it.

    Returns:
        What the receipt should say, or None when there is nothing to say yet: the upload is incomplete,
        or torn while the box still has the right bytes.

    Raises:
        StoreAway, DatabaseAway: nothing was lost; the sweep does it again.
    """
    # (0) and (1)
    with ctx.database.reader() as session:
        forgotten = is_forgotten(session, upload.task_id, upload.sample_id)
        row = find_sample(session, upload.task_id, upload.sample_id)
    if forgotten:
        _remove_incoming(ctx, upload)
        return ReceiptItem(sample_id=upload.sample_id, outcome="forgotten")
    if row is not None and (sidecar := _known_sidecar(ctx, upload)) is not None:
        return _add_sightings(ctx, upload, sidecar)
    promise = _promise_of(ctx, upload)
    try:
        # (2)
        example = _read_announcement(ctx, upload)
        if example is None:
            return None
        # (3)
        content = _read_image(ctx, upload, promise)
        if content is None:
            return None
        facts = check_image(promise, content)
        check_example(promise, facts, example)
    except Refusal as refusal:
        return set_aside(ctx, upload, promise.device_id, refusal)
    described = _sidecar(ctx, example, facts)
    return _store(ctx, upload, content, described if row is None else _as_cataloged(ctx, row, described))


def remove_upload(ctx: Context, upload: Incoming) -> None:
    """Remove both objects of an upload; the caller knows that nothing needs them."""
    _remove_incoming(ctx, upload)


def _store(ctx: Context, upload: Incoming, content: bytes, example: HardExample) -> ReceiptItem:
    task_id, sample_id = upload.task_id, upload.sample_id
    # (4)
    ctx.store.put(keys.sample_image(task_id, sample_id), content)
    # (5)
    ctx.store.put(keys.sample_sidecar(task_id, sample_id), encode(example))
    # (6)
    with ctx.database.session() as session:
        forgotten = is_forgotten(session, task_id, sample_id)
        if not forgotten:
            put_sample(session, example)
    if forgotten:
        ctx.store.delete(keys.sample_sidecar(task_id, sample_id))
        ctx.store.delete(keys.sample_image(task_id, sample_id))
    # (7)
    _remove_incoming(ctx, upload)
    return ReceiptItem(sample_id=sample_id, outcome="forgotten" if forgotten else "stored")


def _known_sidecar(ctx: Context, upload: Incoming) -> HardExample | None:
    """Return the sidecar of a sample that the bucket has whole, None where image or sidecar was lost."""
    key = keys.sample_sidecar(upload.task_id, upload.sample_id)
    image = ctx.store.stat(keys.sample_image(upload.task_id, upload.sample_id))
    if image is None or image.size == 0:
        log.warning("ingest.image_lost sample=%s", upload.sample_id)
        return None
    try:
        return decode(HardExample, ctx.store.get(key), where=key)
    except (StoreMissing, ContractError) as error:
        log.warning("ingest.sidecar_lost sample=%s why=%s", upload.sample_id, error)
        return None


def _as_cataloged(ctx: Context, row: SampleRow, example: HardExample) -> HardExample:
    """Return a sidecar with what the catalog still knows: a golden sample stays one, no sighting is lost."""
    with ctx.database.reader() as session:
        seen = session.scalars(
            select(SightingRow)
            .where(SightingRow.task_id == row.task_id, SightingRow.sample_id == row.sample_id)
            .order_by(SightingRow.id)
        )
        sightings = tuple(Sighting.model_validate(one, from_attributes=True) for one in seen)
    kept = {
        "sightings": sightings or example.sightings,
        "origin": row.origin,
        "pinned_split": row.pinned_split,
        "slices": dict(row.slices),
        "keep_until": row.keep_until,
        "committed_at": row.committed_at,
    }
    return merge_sightings(example.model_copy(update=kept), example)


def _add_sightings(ctx: Context, upload: Incoming, sidecar: HardExample) -> ReceiptItem:
    try:
        announced = _read_announcement(ctx, upload)
    except Refusal:
        announced = None
    if announced is not None and _is_about(announced, upload):
        merged = merge_sightings(sidecar, announced)
        if merged is not sidecar:
            ctx.store.put(keys.sample_sidecar(upload.task_id, upload.sample_id), encode(merged))
        with ctx.database.session() as session:
            put_sightings(session, merged)
    _remove_incoming(ctx, upload)
    return ReceiptItem(sample_id=upload.sample_id, outcome="duplicate")


def _is_about(example: HardExample, upload: Incoming) -> bool:
    return (example.task_id, example.sample_id) == (upload.task_id, upload.sample_id)


def _promise_of(ctx: Context, upload: Incoming) -> Promise:
    with ctx.database.reader() as session:
        grant = session.get(GrantRow, upload.grant_id)
    if grant is None:
        # The database was rebuilt since; the announcement alone describes the upload then.
        return Promise(upload.task_id, upload.sample_id, None, None)
    sizes = {str(sample_id): int(size) for sample_id, size in grant.items}
    return Promise(upload.task_id, upload.sample_id, grant.device_id, sizes.get(upload.sample_id))


def _read_announcement(ctx: Context, upload: Incoming) -> HardExample | None:
    key = keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "announcement")
    try:
        return decode(HardExample, ctx.store.get(key, limit=8 * 1024 * 1024 + 1), where=key)
    except StoreMissing:
        return None
    except ContractError as error:
        # Torn on the way as an image can be: the box keeps its good copy, and the number of tries is bounded.
        raise Refusal(str(error), torn=True) from error


def _read_image(ctx: Context, upload: Incoming, promise: Promise) -> bytes | None:
    key = keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "image")
    found = ctx.store.stat(key)
    if found is None:
        return None
    check_size(promise, found.size)
    try:
        return ctx.store.get(key, limit=found.size + 1)
    except StoreMissing:
        return None


def _sidecar(ctx: Context, example: HardExample, facts: ImageFacts) -> HardExample:
    # What only the cloud may say is set here, whatever the box wrote.
    keep = utc_now() + timedelta(days=ctx.settings.task(example.task_id).keep_days)
    image = example.image.model_copy(
        update={
            "width": facts.width,
            "height": facts.height,
            "size_bytes": facts.size_bytes,
            "media_type": facts.media_type,
        }
    )
    captured = any(reason.rule == "capture" for reason in example.reasons)
    return example.model_copy(
        update={
            "image": image,
            "origin": "capture" if captured else "mined",
            "pinned_split": None,
            "look": facts.look,
            "committed_at": utc_now(),
            "keep_until": min(example.keep_until, keep),
        }
    )


def _remove_incoming(ctx: Context, upload: Incoming) -> None:
    # The image first: an announcement without its image is an incomplete upload that nobody acts on.
    ctx.store.delete(keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "image"))
    ctx.store.delete(keys.incoming(upload.task_id, upload.grant_id, upload.sample_id, "announcement"))
