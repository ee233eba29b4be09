"""Bring a run's data to this machine: several shards at a time, unpacked as soon as each is whole.

(1) See which images lie in the run's folder already and are right.
(2) Skip shards of which nothing is missing; they need not even be in the cache.
(3) Fetch the others in the order of the ticket, a bounded number at a time and ahead, and unpack each.
(4) Write the index, which says that the data are complete.

Training starts when all data are there: an epoch over a part of them would be another epoch, and a run that
is resumed elsewhere must repeat the same one. After that no epoch touches the network.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from fleet_contracts.samples import ClassList
from fleet_contracts.training import SnapshotMember, TicketObject
from trainer.backend_job import write_whole
from trainer.dataset import (
    DatasetItem,
    DatasetOnDisk,
    checked,
    image_file,
    is_right,
    item_of,
    place_image,
    write_dataset,
)
from trainer.errors import DatasetRefused
from trainer.fetch import Fetcher
from trainer.shards import unpack

_log = logging.getLogger("whetstone.trainer")
THREADS = 4
"""Shards fetched and unpacked at once; one stream rarely fills a line to object storage."""
_FIRST_NEWS_SECONDS = 30.0
Notify = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class DataOrder:
    """Hold what is to be staged and where: the ticket's shards, the snapshot's members, the run's classes."""

    shards: tuple[TicketObject, ...]
    members: Sequence[SnapshotMember]
    class_list: ClassList
    folder: Path


def stage_dataset(order: DataOrder, fetcher: Fetcher, notify: Notify | None = None) -> DatasetOnDisk:
    """Put a snapshot's members on disk; golden ones stay out, they are for the gate alone.

    Args:
        order: what to stage; its folder may hold what an earlier start brought.
        fetcher: brings shards.
        notify: told how far it is when it takes long, at growing intervals: bytes, bytes in all, seconds.

    Raises:
        TransferFailed: a shard is not to be had.
        DatasetRefused: the shards do not hold what the manifest names.
    """
    members = [one for one in order.members if one.split != "golden"]
    (order.folder / "images").mkdir(parents=True, exist_ok=True)
    # (1)
    missing = _missing(order.folder, members)
    # (2)
    shards = {shard.sha256: shard for shard in order.shards}
    needed = [shard for shard in shards.values() if _is_needed(order.folder, shard, missing)]
    spared = set(shards).difference(shard.sha256 for shard in needed)
    fetcher.meter.cached(sum(shards[sha256].size_bytes for sha256 in spared))
    # (3)
    with fetcher.meter.waiting():
        _bring(_Bringing(order.folder, missing, fetcher), needed, notify)
    if missing:
        lacking = min(missing)
        raise DatasetRefused(
            expected=f"sample {lacking}", got="no such member", where=f"{len(order.shards)} shards",
            now="Cut the snapshot again; its shards do not hold what its manifest names.",
        )  # fmt: skip
    # (4)
    return write_dataset(order.folder, order.class_list.names, _items(order.folder, members))


@dataclass(frozen=True, slots=True)
class _Bringing:
    """Fetch shards into a folder; `missing` shrinks as images arrive, from several threads."""

    folder: Path
    missing: set[str]
    fetcher: Fetcher

    def __call__(self, shard: TicketObject) -> None:
        path = self.fetcher.object(shard)
        try:
            samples = unpack(path, self._place)
        finally:
            self.fetcher.release(shard)
        write_whole(_mark(self.folder, shard), json.dumps(samples).encode())

    def _place(self, sample_id: str, read: Callable[[], bytes]) -> None:
        if sample_id in self.missing:
            place_image(checked(sample_id, read()), image_file(self.folder, sample_id))
            self.missing.discard(sample_id)


def _bring(bring: _Bringing, shards: Iterable[TicketObject], notify: Notify | None) -> None:
    """Bring shards in their order, never more than a few ahead; the first failure ends all."""
    news = _News(bring.fetcher, notify)
    waiting = iter(shards)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="stage") as pool:
        running: set[Future[None]] = set()
        try:
            while _fill(running, pool, bring, waiting):
                done, running = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for one in done:
                    one.result()
                news.tell()
        finally:
            for one in running:
                one.cancel()


def _fill(
    running: set[Future[None]], pool: ThreadPoolExecutor, bring: _Bringing, waiting: Iterator[TicketObject]
) -> bool:
    """Keep every thread busy and no shard more in flight than that; False when all is done."""
    while len(running) < THREADS:
        shard = next(waiting, None)
        if shard is None:
            break
        running.add(pool.submit(bring, shard))
    return bool(running)


class _News:
    """Tell about a long download after half a minute, one minute, two, four: a run's events are numbered."""

    def __init__(self, fetcher: Fetcher, notify: Notify | None) -> None:
        self._meter = fetcher.meter
        self._notify = notify
        self._began = time.monotonic()
        self._next = _FIRST_NEWS_SECONDS

    def tell(self) -> None:
        """Tell if it is time."""
        seconds = time.monotonic() - self._began
        if self._notify is None or seconds < self._next:
            return
        self._next *= 2
        flow = self._meter.flow()
        self._notify({
            "bytes": flow.cached_bytes + flow.fetched_bytes, "bytes_in_all": self._meter.wanted_bytes,
            "seconds": round(seconds, 1),
        })  # fmt: skip


def _missing(folder: Path, members: Sequence[SnapshotMember]) -> set[str]:
    """Return the samples whose image is not there or not right; wrong ones are removed."""
    there = [one.sample_id for one in members if image_file(folder, one.sample_id).exists()]
    missing = {one.sample_id for one in members}.difference(there)
    with ThreadPoolExecutor(THREADS) as pool:
        right = pool.map(lambda one: is_right(image_file(folder, one), one), there)
        for sample_id, whole in zip(there, right, strict=True):
            if not whole:
                _log.warning("trainer.image_damaged sample=%s", sample_id)
                image_file(folder, sample_id).unlink(missing_ok=True)
                missing.add(sample_id)
    return missing


def _is_needed(folder: Path, shard: TicketObject, missing: set[str]) -> bool:
    """Say whether a shard may hold what is missing; one unpacked before has left a list of its samples."""
    if not missing:
        return False
    try:
        samples = json.loads(_mark(folder, shard).read_bytes())
    except (OSError, ValueError):
        return True
    return not missing.isdisjoint(samples)


def _mark(folder: Path, shard: TicketObject) -> Path:
    return folder / f"shard-{shard.sha256}.json"


def _items(folder: Path, members: Iterable[SnapshotMember]) -> Iterator[DatasetItem]:
    return (item_of(one, image_file(folder, one.sample_id)) for one in members)
