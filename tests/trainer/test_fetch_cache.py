"""Keep fetched objects between runs: bounded, verified, shared, and whole after a death at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts.base import encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.training import TicketObject, TrainTicket
from flows.settings import StoreSettings
from flows.store.minio_store import MinioStore
from tests.flows.store.servers import CREDENTIALS, rclone_store
from tests.helpers import ROOT, wait_until
from tests.trainer.store import RunStore
from tests.trainer.weather import Weather
from trainer.cache import ObjectCache
from trainer.errors import TransferFailed
from trainer.fetch import ATTEMPTS, Fetcher
from trainer.flow_meter import FlowMeter
from trainer.ticket_desk import TicketDesk
from trainer.wire import CHUNK_BYTES, HttpWire, MemoryWire, Reply

CONTENT = os.urandom(3 << 20)


def put(cache: ObjectCache, content: bytes) -> str:
    """Put an object into a cache, as a fetcher does, and release it."""
    name = sha256_of(content)
    with cache.part(name, len(content), lambda _: None) as part:
        part.append(content)
        cache.keep(part, name)
    cache.release(name)
    return name


def used_at(folder: Path, name: str, second: int) -> None:
    """Say when an object was used last."""
    os.utime(folder / name, (second, second))


def test_the_longest_unused_goes_first_and_never_what_is_in_use(tmp_path: Path) -> None:
    """Another run's file stays while it is in use, though it is the oldest; the bound holds for the rest."""
    ours, others = ObjectCache(tmp_path, 3000), ObjectCache(tmp_path)
    names = [put(others, bytes([number]) * 1000) for number in range(3)]
    for second, name in enumerate(names):
        used_at(tmp_path, name, second)
    held = others.take(names[0])
    assert held is not None
    used_at(tmp_path, names[0], 0)
    fresh = put(ours, b"f" * 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[0], names[2], fresh])
    assert held.read_bytes() == bytes([0]) * 1000
    assert ours.size() == 3000
    others.close()
    put(ours, b"g" * 1000)
    assert not held.exists()


def test_when_everything_is_in_use_the_bound_gives_way(tmp_path: Path) -> None:
    """A run needs its data more than the disk needs its bound."""
    cache = ObjectCache(tmp_path, 1500)
    first = put(cache, b"a" * 1000)
    assert cache.take(first) is not None
    second = put(cache, b"b" * 1000)
    assert cache.size() == 2000
    assert cache.take(second) is not None
    cache.close()
    put(cache, b"c" * 1000)
    assert cache.size() <= 1500


def test_a_flipped_byte_is_found_and_fetched_again(tmp_path: Path) -> None:
    """What a disk damaged is never trained on: each process hashes a file before it first uses it."""
    store = RunStore(b"weights")
    wanted = store.ticket().shards[0]
    desk = TicketDesk(store.ticket(), store.wire)
    file = Fetcher(desk, tmp_path).object(wanted)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    meter = FlowMeter()
    again = Fetcher(desk, tmp_path, meter=meter).object(wanted)
    assert sha256_of(again.read_bytes()) == wanted.sha256
    assert meter.flow().fetched_bytes == wanted.size_bytes
    assert meter.flow().hit_rate == 0.0


def test_a_broken_line_is_no_failure_while_bytes_come(tmp_path: Path) -> None:
    """Attempts that bring something do not count, so a bad line costs time and no run; idle ones do."""
    store = RunStore(b"weights")
    wanted = store.ticket().shards[0]
    store.wire.cuts = [200] * (3 * ATTEMPTS)
    meter = FlowMeter()
    desk = TicketDesk(store.ticket(), store.wire)
    file = Fetcher(desk, tmp_path, pause=lambda _: None, meter=meter).object(wanted)
    assert sha256_of(file.read_bytes()) == wanted.sha256
    assert meter.flow().fetched_bytes == wanted.size_bytes
    store.wire.cuts = [0] * ATTEMPTS
    with pytest.raises(TransferFailed, match=f"within {ATTEMPTS} attempts"):
        Fetcher(desk, tmp_path, pause=lambda _: None).object(store.ticket().shards[1])
    assert not store.wire.cuts


def test_a_stop_ends_a_download(tmp_path: Path) -> None:
    """A run that is asked to stop does not fetch on; what came stays for the next start."""
    store = RunStore(b"weights")
    wanted = store.ticket().shards[0]
    asked = threading.Event()

    class Slow(MemoryWire):
        def get(self, url: str, *, start: int = 0) -> Reply:
            def chunks() -> Iterator[bytes]:
                yield store.shards[0][start : start + 100]
                asked.set()
                yield store.shards[0][start + 100 : start + 200]
                pytest.fail("fetched on")

            return Reply(206 if start else 200, chunks())

    def pause(seconds: float) -> None:
        if asked.wait(seconds):
            raise TransferFailed(expected="data", got="a request to stop", where="test")

    with pytest.raises(TransferFailed, match="request to stop"):
        Fetcher(TicketDesk(store.ticket(), Slow()), tmp_path, pause=pause).object(wanted)
    assert (tmp_path / f"{wanted.sha256}.part").stat().st_size == 200


@dataclass
class Line:
    """Hold a real store with one object behind a line, and a ticket signed for that line."""

    weather: Weather
    ticket: TrainTicket
    file: Path

    @property
    def shard(self) -> TicketObject:
        return self.ticket.shards[0]

    def fetch(self, cache: ObjectCache | Path, meter: FlowMeter | None = None) -> Path:
        """Fetch the object over HTTP, with short pauses."""
        wire = HttpWire(connect_seconds=5, read_seconds=5)
        pause = threading.Event().wait
        return Fetcher(TicketDesk(self.ticket, wire), cache, lambda s: void(pause(s / 20)), meter).object(
            self.shard
        )


def void(_: object) -> None:
    """Return nothing."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Return rclone's S3 server with one object, behind a line whose weather a test makes."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "store").mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(rclone_store(folder / "store"))
        store.put("shard.tar", CONTENT)
        weather = Weather(int(store.endpoint.rpartition(":")[2]))
        stack.callback(weather.close)
        seen = MinioStore(
            StoreSettings(endpoint=f"127.0.0.1:{weather.port}", bucket="whetstone-test"), CREDENTIALS
        )
        url = seen.presign_get("shard.tar", timedelta(hours=1))
        wanted = TicketObject(name="shard.tar", url=url, sha256=sha256_of(CONTENT), size_bytes=len(CONTENT))
        ticket = RunStore(b"weights").ticket().model_copy(update={"shards": (wanted,)})
        file = folder / "ticket.json"
        file.write_bytes(encode(ticket))
        yield Line(weather, ticket, file)


def test_a_download_killed_in_its_middle_goes_on_there(line: Line, tmp_path: Path) -> None:
    """SIGKILL loses no byte that was written: the next start asks the real store for the rest alone."""
    line.weather.bytes_per_second = 1 << 20
    part = tmp_path / "cache" / f"{line.shard.sha256}.part"
    command = [sys.executable, "-m", "tests.trainer.fetch_child", str(line.file), str(tmp_path / "cache")]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: part.exists() and part.stat().st_size > 600_000, 60, "the middle of the download")
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    line.weather.bytes_per_second = 0
    have, carried = part.stat().st_size, line.weather.carried
    assert 600_000 < have < len(CONTENT)
    meter = FlowMeter()
    file = line.fetch(tmp_path / "cache", meter)
    assert file.read_bytes() == CONTENT
    assert meter.flow().cached_bytes == have
    assert meter.flow().fetched_bytes == len(CONTENT) - have
    assert line.weather.carried - carried < len(CONTENT) - have + 100_000  # what was under way at the kill
    assert sorted(path.name for path in file.parent.iterdir()) == [line.shard.sha256]


def test_a_store_that_breaks_off_and_goes_away_is_waited_for(line: Line, tmp_path: Path) -> None:
    """Through three broken answers and a while without any store, little is carried twice."""
    weather = line.weather
    broken, refused, carried = weather.broken, weather.refused, weather.carried
    weather.breaks = [500_000, 700_000, 300_000]

    def storm() -> None:
        wait_until(lambda: weather.broken - broken >= 2, 30, "broken answers")
        weather.away = True
        wait_until(lambda: weather.refused > refused, 30, "a refused connection")
        weather.away = False

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        file = line.fetch(tmp_path)
    finally:
        weather.away = False
        thread.join(60)
    assert file.read_bytes() == CONTENT
    assert weather.broken - broken == 3
    assert weather.refused > refused
    lost = 3 * CHUNK_BYTES  # each break loses the chunk it came in
    assert weather.carried - carried < len(CONTENT) + lost + 50_000


def test_runs_that_want_the_same_object_fetch_it_once(line: Line, tmp_path: Path) -> None:
    """Two runs of one machine share a cache: one downloads, the other waits and takes it from there."""
    line.weather.bytes_per_second = 4 << 20
    carried = line.weather.carried
    command = [sys.executable, "-m", "tests.trainer.fetch_child", str(line.file), str(tmp_path)]
    child = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: any(tmp_path.iterdir()), 60, "the other run's download")
        meters = [FlowMeter(), FlowMeter()]
        cache = ObjectCache(tmp_path)
        threads = [threading.Thread(target=line.fetch, args=(cache, meter)) for meter in meters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert child.wait(60) == 0
    finally:
        child.kill()
        line.weather.bytes_per_second = 0
    assert [meter.flow().hit_rate for meter in meters] == [1.0, 1.0]
    assert line.weather.carried - carried < len(CONTENT) + 10_000
    assert cache.take(line.shard.sha256) is not None
