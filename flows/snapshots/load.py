"""Read a snapshot back from the bucket; its shards are packed anew where they are gone."""

from __future__ import annotations

from fleet_contracts import keys, sha256_of
from fleet_contracts.manifest import decode_manifest
from flows.catalog.samples import known_samples
from flows.context import Context
from flows.database.schema import SnapshotRow
from flows.errors import CannotStart, StoreMissing
from flows.snapshots.cut import Snapshot
from flows.snapshots.shards import Shard, pack_shards


def load_snapshot(ctx: Context, task_id: str, snapshot_id: str) -> Snapshot:
    """Return a snapshot with its members as they were when it was cut.

    Raises:
        CannotStart: there is no such snapshot, or its manifest does not have the hash it is named by.
        MalformedDocument: the manifest does not parse.
    """
    key = keys.snapshot_manifest(task_id, snapshot_id)
    try:
        content = ctx.store.get(key)
    except StoreMissing as error:
        raise CannotStart(expected="a snapshot", got="none", where=key) from error
    if sha256_of(content) != snapshot_id:
        raise CannotStart(
            expected=f"a manifest with SHA-256 {snapshot_id}", got=sha256_of(content), where=key,
            now="The object was damaged or changed; cut the snapshot again.",
        )  # fmt: skip
    header, members = decode_manifest(content, where=key)
    with ctx.database.reader() as session:
        row = session.get(SnapshotRow, (task_id, snapshot_id))
    shards = () if row is None else tuple(_shard(data) for data in row.shards)
    if not shards or any(ctx.store.stat(shard.key) is None for shard in shards):
        shards = _pack_again(ctx, Snapshot(snapshot_id, header, members, ()))
    return Snapshot(snapshot_id, header, members, shards)


def _pack_again(ctx: Context, snapshot: Snapshot) -> tuple[Shard, ...]:
    # After a rebuilt catalog, or after a sample was forgotten: it is in no shard then, though the manifest
    # still names it, and a run on this snapshot stops with its name.
    task_id = snapshot.header.task_id
    wanted = [member.sample_id for member in snapshot.members if member.split != "golden"]
    with ctx.database.reader() as session:
        samples = list(known_samples(session, task_id, wanted).values())
    shards = pack_shards(ctx, task_id, samples)
    with ctx.database.session() as session:
        row = session.get(SnapshotRow, (task_id, snapshot.snapshot_id))
        if row is not None:
            row.shards = [shard.to_json() for shard in shards]
    return shards


def _shard(data: dict[str, object]) -> Shard:
    samples = data["samples"]
    assert isinstance(samples, list)
    return Shard(
        sha256=str(data["sha256"]),
        key=str(data["key"]),
        size_bytes=int(str(data["size_bytes"])),
        samples=tuple(str(sample) for sample in samples),
    )
