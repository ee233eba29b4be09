"""Bring a dataset to a machine: in parallel, in pieces, and only what is missing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fleet_contracts.manifest import decode_manifest
from fleet_contracts.training import DataFlow, SnapshotMember
from tests.trainer.scenes import class_list, snapshot, tar_of
from tests.trainer.store import RunStore
from trainer import staging
from trainer.cache import ObjectCache
from trainer.dataset import DatasetOnDisk
from trainer.errors import DatasetRefused, TransferFailed
from trainer.fetch import Fetcher
from trainer.flow_meter import FlowMeter
from trainer.journal import Journal
from trainer.staging import THREADS, DataOrder, stage_dataset
from trainer.ticket_desk import TicketDesk
from trainer.wire import MemoryWire, Reply, WireDown


class ManyShards(RunStore):
    """Be a run whose images lie in shards of two."""

    def __init__(self, images: int = 12) -> None:
        super().__init__(b"weights", splits={"train": images - 3, "val": 2, "golden": 1})
        _, manifest, found = snapshot({"train": images - 3, "val": 2, "golden": 1})
        _, self.members = decode_manifest(manifest, where="manifest")
        rows = list(found.items())
        self.shards = [tar_of(dict(rows[at : at + 2])) for at in range(0, images, 2)]
        for number, shard in enumerate(self.shards):
            self.put(f"shard-{number}", shard)

    def order(self, folder: Path, members: tuple[SnapshotMember, ...] | None = None) -> DataOrder:
        """Return what is to be staged."""
        return DataOrder(self.ticket().shards, members or self.members, class_list(), folder)

    def asked(self) -> list[str]:
        """Return the objects that were asked for so far."""
        return [url.rpartition("/")[2].partition("?")[0] for verb, url, _ in self.wire.log if verb == "GET"]


def stage(store: ManyShards, folder: Path, cache: ObjectCache | Path) -> tuple[DatasetOnDisk, DataFlow]:
    """Stage a store's run and return what came of it."""
    meter = FlowMeter()
    fetcher = Fetcher(TicketDesk(store.ticket(), store.wire), cache, lambda _: None, meter)
    return stage_dataset(store.order(folder), fetcher), meter.flow()


def test_shards_come_several_at_a_time_and_none_stays_in_use(tmp_path: Path) -> None:
    """Four answers are under way at once, each shard is unpacked as it comes, and may be evicted then."""
    store = ManyShards()
    together = threading.Barrier(THREADS, timeout=20)
    real = store.wire.get
    met: list[int] = []

    def get(url: str, *, start: int = 0) -> Reply:
        number = int(url.rpartition("shard-")[2].partition("?")[0])
        if number < THREADS:
            met.append(together.wait())
        return real(url, start=start)

    store.wire.get = get  # type: ignore[method-assign]
    cache = ObjectCache(tmp_path / "cache", limit_bytes=1)
    made, flow = stage(store, tmp_path / "data", cache)
    assert sorted(met) == list(range(THREADS))
    assert (made.train_images, made.val_images) == (9, 2)
    assert flow.fetched_bytes == sum(map(len, store.shards))
    cache.make_room(0)
    assert cache.size() == 0


def test_a_second_start_asks_for_nothing(tmp_path: Path) -> None:
    """What lies in the run's folder and is right is neither fetched nor written again, cache or no cache."""
    store = ManyShards()
    first, _ = stage(store, tmp_path / "data", tmp_path / "cache")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "images").iterdir()}
    store.wire.log.clear()
    second, flow = stage(store, tmp_path / "data", tmp_path / "another-cache")
    assert second == first
    assert store.asked() == []
    assert flow.hit_rate == 1.0
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_only_the_shard_of_a_damaged_image_is_fetched(tmp_path: Path) -> None:
    """A torn image is found by its hash, and its shard alone comes again."""
    store = ManyShards()
    stage(store, tmp_path / "data", tmp_path / "cache")
    damaged = tmp_path / "data" / "images" / f"{store.members[5].sample_id}.jpg"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    store.wire.log.clear()
    _, flow = stage(store, tmp_path / "data", tmp_path / "another-cache")
    assert len(store.asked()) == 1
    assert damaged.read_bytes() == whole
    assert 0.5 < flow.hit_rate < 1.0


def test_another_run_of_the_machine_takes_its_data_from_the_cache(tmp_path: Path) -> None:
    """The second run's hit rate is one, and that is what its record says."""
    store = ManyShards()
    stage(store, tmp_path / "one", tmp_path / "cache")
    _, flow = stage(store, tmp_path / "two", tmp_path / "cache")
    assert (flow.hit_rate, flow.fetched_bytes) == (1.0, 0)
    journal = Journal(store.plan, None, 0)
    journal.data_came(flow)
    journal.data_came(DataFlow(cached_bytes=0, fetched_bytes=flow.cached_bytes, wait_seconds=2.0))
    assert journal.record.data_flow is not None
    assert journal.record.data_flow.hit_rate == 0.5
    assert journal.record.data_flow.wait_seconds >= 2.0


def test_a_start_that_died_half_way_goes_on(tmp_path: Path) -> None:
    """The shards that came before a store went away are not asked for again."""
    store = ManyShards()
    real = store.wire.get

    def get(url: str, *, start: int = 0) -> Reply:
        if "shard-5" in url:
            raise WireDown("away")
        return real(url, start=start)

    store.wire.get = get  # type: ignore[method-assign]
    with pytest.raises(TransferFailed, match="shard-5"):
        stage(store, tmp_path / "data", tmp_path / "cache")
    assert not (tmp_path / "data" / "dataset.json").exists()
    store.wire.get = real  # type: ignore[method-assign]
    store.wire.log.clear()
    made, _ = stage(store, tmp_path / "data", tmp_path / "cache")
    assert set(store.asked()) == {"shard-5"}
    assert made.train_images == 9


def test_an_image_that_is_not_what_it_is_called_is_refused(tmp_path: Path) -> None:
    """A shard may have the promised hash and still hold another image under a sample's name."""
    store = ManyShards()
    store.shards[0] = tar_of({store.members[0].sample_id: b"another image"})
    store.put("shard-0", store.shards[0])
    with pytest.raises(DatasetRefused, match="another hash"):
        stage(store, tmp_path / "data", tmp_path / "cache")


def test_a_long_download_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People see bytes, bytes in all and seconds, at intervals that grow."""
    monkeypatch.setattr(staging, "_FIRST_NEWS_SECONDS", 0.05)
    store = ManyShards()
    real = MemoryWire.get

    class Slow(MemoryWire):
        def get(self, url: str, *, start: int = 0) -> Reply:
            time.sleep(0.1)
            return real(self, url, start=start)

    store.wire = Slow(objects=store.wire.objects)
    news: list[dict[str, float]] = []
    meter = FlowMeter(sum(map(len, store.shards)))
    fetcher = Fetcher(TicketDesk(store.ticket(), store.wire), tmp_path / "cache", lambda _: None, meter)
    stage_dataset(store.order(tmp_path / "data"), fetcher, news.append)
    assert 1 <= len(news) <= 4
    assert news[0]["bytes_in_all"] == meter.wanted_bytes
    assert 0 < news[-1]["bytes"] <= meter.wanted_bytes
    assert meter.flow().wait_seconds >= 0.1
