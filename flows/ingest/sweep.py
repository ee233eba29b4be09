"""Find in the bucket what no message announced (law 1), and clear away what nobody needs any more.

Every complete upload in `incoming/` is taken in as if it had been announced. What is incomplete stays until
its grant is long over; the box still has the bytes and asks for a new grant.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_contracts import BadAddress, keys, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.keys import Incoming
from fleet_contracts.messages import ReceiptItem
from flows.catalog.samples import find_sample, is_forgotten
from flows.context import Context
from flows.database.schema import GrantRow
from flows.errors import DatabaseAway, FlowsError, StoreAway
from flows.ingest.commit import commit_upload, remove_upload
from flows.ingest.quarantine import was_set_aside
from flows.store.base import ObjectInfo

log = logging.getLogger("whetstone.flows")

LEFTOVER_AFTER = timedelta(hours=24)
"""Age of an incomplete upload from which on it is removed; a grant lives for minutes."""


@dataclass(frozen=True, slots=True)
class Swept:
    """Say what one upload the sweep found became, and which device to tell (None when nobody knows)."""

    task_id: str
    device_id: str | None
    item: ReceiptItem


def sweep_incoming(ctx: Context, task_id: str, now: datetime | None = None) -> Iterator[Swept]:
    """Take in every complete upload of a task and remove leftovers, one at a time.

    Raises:
        StoreAway, DatabaseAway: what was not reached is found by the next sweep.
    """
    now = now or utc_now()
    for group in _uploads(ctx.store.list(f"{keys.task(task_id)}/incoming/")):
        try:
            swept = _sweep_upload(ctx, group, now)
        except (StoreAway, DatabaseAway):
            raise
        except (ContractError, FlowsError) as error:
            # One upload that cannot be taken in must not keep the others waiting; it is tried again.
            log.warning("sweep.skipped grant=%s sample=%s why=%s", *group[0][0][1:3], error)
            continue
        if swept is not None:
            yield swept


Found = list[tuple[Incoming, ObjectInfo]]


def _sweep_upload(ctx: Context, group: Found, now: datetime) -> Swept | None:
    upload, complete = group[0][0], _is_complete(group)
    if complete or _is_done(ctx, upload):
        item = commit_upload(ctx, upload)
        if item is not None:
            return Swept(upload.task_id, _device_of(ctx, upload), item)
    if complete:
        return None
    if was_set_aside(ctx, upload) or max(info.modified for _, info in group) < now - LEFTOVER_AFTER:
        log.info("sweep.leftover grant=%s sample=%s", upload.grant_id, upload.sample_id)
        remove_upload(ctx, upload)
    return None


def _uploads(objects: Iterable[ObjectInfo]) -> list[Found]:
    groups: dict[tuple[str, str], Found] = defaultdict(list)
    for info in objects:
        try:
            found = keys.parse_incoming(info.key)
        except BadAddress:
            # A store may list its own half-written files here; they are not ours to judge.
            log.debug("sweep.foreign_key key=%s", info.key)
            continue
        groups[found.grant_id, found.sample_id].append((found, info))
    return list(groups.values())


def _is_complete(group: Found) -> bool:
    return {upload.kind for upload, _ in group} == {"image", "announcement"}


def _is_done(ctx: Context, upload: Incoming) -> bool:
    # A kill between the deletes of a committed upload leaves one of its two objects behind.
    with ctx.database.reader() as session:
        return find_sample(session, upload.task_id, upload.sample_id) is not None or is_forgotten(
            session, upload.task_id, upload.sample_id
        )


def _device_of(ctx: Context, upload: Incoming) -> str | None:
    with ctx.database.reader() as session:
        grant = session.get(GrantRow, upload.grant_id)
        return None if grant is None else grant.device_id
