"""Pack sample images into tars that are named by their content and shared between snapshots.

Samples are packed in the order in which they were committed, so that a later snapshot finds the tars of the
older samples packed already. The same samples always give the same bytes.
"""

from __future__ import annotations

import io
import logging
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from fleet_contracts import keys, sha256_of
from flows.context import Context
from flows.database.schema import SampleRow, ShardRow
from flows.errors import StoreMissing
from flows.files import sha256_of_file

log = logging.getLogger("whetstone.flows")

MAX_IMAGES = 256
MAX_BYTES = 128 * 1024 * 1024
THREADS = 4


@dataclass(frozen=True, slots=True)
class Shard:
    """Point at one tar: members are `<sample id>.jpg`."""

    sha256: str
    key: str
    size_bytes: int
    samples: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the shard as JSON values."""
        return {**asdict(self), "samples": list(self.samples)}


def plan_shards(samples: Sequence[SampleRow]) -> list[list[SampleRow]]:
    """Share samples out over shards, bounded in number and bytes."""
    shards: list[list[SampleRow]] = []
    size = 0
    for sample in sorted(samples, key=lambda row: (row.committed_at, row.sample_id)):
        if not shards or len(shards[-1]) >= MAX_IMAGES or size + sample.size_bytes > MAX_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(sample)
        size += sample.size_bytes
    return shards


def pack_shards(ctx: Context, task_id: str, samples: Sequence[SampleRow]) -> tuple[Shard, ...]:
    """Make sure that every sample's image lies in a shard; what is packed already is not read again.

    Raises:
        StoreMissing: an image the catalog names is not in the bucket.
    """
    return tuple(_shard(ctx, task_id, [row.sample_id for row in chunk]) for chunk in plan_shards(samples))


def _shard(ctx: Context, task_id: str, sample_ids: list[str]) -> Shard:
    list_sha256 = sha256_of("\n".join(sample_ids).encode())
    with ctx.database.reader() as session:
        known = session.get(ShardRow, (task_id, list_sha256))
    if known is not None and ctx.store.stat(keys.shard(task_id, known.sha256)) is not None:
        return Shard(known.sha256, keys.shard(task_id, known.sha256), known.size_bytes, tuple(sample_ids))
    with tempfile.TemporaryDirectory(prefix="whetstone-shard-") as folder:
        path = Path(folder) / "shard.tar"
        with path.open("wb") as file:
            _write_tar(file, _images(ctx, task_id, sample_ids))
        sha256, size = sha256_of_file(path), path.stat().st_size
        ctx.store.put_file(keys.shard(task_id, sha256), path)
    with ctx.database.session() as session:
        session.merge(
            ShardRow(
                task_id=task_id, list_sha256=list_sha256, sha256=sha256, size_bytes=size, samples=sample_ids
            )
        )
    log.info("shard.packed task=%s images=%d bytes=%d", task_id, len(sample_ids), size)
    return Shard(sha256, keys.shard(task_id, sha256), size, tuple(sample_ids))


def _images(ctx: Context, task_id: str, sample_ids: list[str]) -> Iterator[tuple[str, bytes]]:
    with ThreadPoolExecutor(THREADS) as pool:
        # A few at a time: `map` alone would have the whole shard in memory.
        for start in range(0, len(sample_ids), 4 * THREADS):
            some = sample_ids[start : start + 4 * THREADS]
            found = pool.map(lambda one: ctx.store.get(keys.sample_image(task_id, one)), some)
            for sample_id, content in zip(some, found, strict=True):
                if sha256_of(content) != sample_id:
                    raise StoreMissing(
                        expected=f"the image {sample_id}",
                        got="bytes with another hash",
                        where=keys.sample_image(task_id, sample_id),
                        now="The object was damaged in the bucket; restore it or forget the sample.",
                    )
                yield sample_id, content


def _write_tar(file: IO[bytes], images: Iterator[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for sample_id, content in images:
            # Owner, mode and time stay at their defaults (0, 0o644, 1970): equal images, equal tar.
            member = tarfile.TarInfo(f"{sample_id}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
