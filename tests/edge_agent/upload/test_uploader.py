"""Test that every example reaches the cloud exactly as often as needed, whatever gets lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.counters import RECEIPTS
from edge_agent.errors import StoreAway, UploadRefused
from edge_agent.upload import MemoryPutter
from edge_agent.upload.http import HttpPutter
from tests.edge_agent.builders import DEVICE, config_of
from tests.edge_agent.put_server import PutServer
from tests.edge_agent.upload.upload_bench import Bench
from tests.helpers import wait_until


@pytest.fixture
def bench(tmp_path: Path, store: PutServer) -> Iterator[Bench]:
    made = Bench(config_of(tmp_path), tmp_path / "outbox", store)
    yield made
    made.stop()


def test_everything_arrives_once_and_in_order(bench: Bench) -> None:
    """Image before announcement, announcement before message, receipt before deletion; 70 need two grants."""
    bench.fill(70)
    bench.start()
    wait_until(bench.all_arrived, 20, "70 receipts")
    assert bench.cloud.outcomes == {"stored": 70}
    assert bench.counters.value(RECEIPTS) == 70
    paths = bench.store.order
    for sample_id in bench.ids:
        places = [place for place, path in enumerate(paths) if sample_id in path]
        assert len(places) == 2
        assert paths[places[1]].endswith(".json")
    assert bench.cloud.heard.count("grant-request") == 2
    assert bench.outbox.stored_counts() == {RECEIPTS: 70}


def test_nothing_is_deleted_without_a_receipt(bench: Bench) -> None:
    """Two hundreds and delivered messages prove nothing; when receipts come again the rows go."""
    bench.fill(3)
    bench.cloud.gives_receipts = False
    bench.start()
    wait_until(lambda: bench.cloud.heard.count("uploaded") >= 1, 10, "the upload")
    wait_until(lambda: bench.cloud.heard.count("grant-request") >= 3, 10, "the box to ask again")
    assert bench.outbox.waiting() == 3
    bench.cloud.gives_receipts = True
    wait_until(bench.all_arrived, 10, "the receipts")
    # Known samples were answered, not uploaded again.
    assert len(bench.store.order) == 6


@pytest.mark.parametrize("lost", ["grant-request", "grant", "uploaded", "receipt"])
def test_any_lost_message_delays_and_loses_nothing(bench: Bench, lost: str) -> None:
    """The first two messages of a kind never arrive; the loss is asserted to have happened."""
    dropped: list[str] = []

    def loses(topic: str) -> bool:
        if topic.endswith(f"/{lost}") and len(dropped) < 2:
            dropped.append(topic)
            return True
        return False

    bench.broker.loses = loses
    bench.fill(4)
    bench.start()
    wait_until(bench.all_arrived, 20, "all receipts")
    assert len(dropped) >= 1
    assert set(bench.cloud.outcomes) <= {"stored", "duplicate"}


def test_what_no_message_announced_is_found_by_the_sweep(bench: Bench) -> None:
    """With every announcement lost, the objects in the bucket are enough."""
    bench.broker.loses = lambda topic: topic.endswith("/uploaded")
    bench.fill(2)
    bench.start()
    wait_until(lambda: len(bench.store.order) >= 4, 10, "the uploads")
    bench.cloud.sweep()
    wait_until(bench.all_arrived, 10, "the receipts")


@pytest.mark.parametrize("status", [503, 403, 404, 429])
def test_a_store_that_fails_is_tried_again(bench: Bench, status: int) -> None:
    """Whether it is overloaded or refuses the URLs: the box waits, asks again, and all arrives."""
    bench.store.answer_with = status
    bench.fill(3)
    bench.start()
    problem = "store.away" if status in (503, 429) else "store.refused"
    wait_until(lambda: problem in bench.events.problems(), 10, "the failure to be told")
    assert "secret" not in bench.events.problems()[problem]
    wait_until(lambda: bench.store.failures >= 2, 10, "a second attempt")
    assert bench.outbox.waiting() == 3
    bench.store.answer_with = 0
    wait_until(bench.all_arrived, 20, "all receipts")
    assert bench.events.problems() == {}


def test_a_store_that_is_not_there_is_waited_for(bench: Bench) -> None:
    """Refused connections are no end; the store comes back on the same address."""
    bench.store.stop()
    bench.fill(2)
    bench.start()
    wait_until(lambda: "store.away" in bench.events.problems(), 10, "the failure to be told")
    bench.store.start()
    wait_until(bench.all_arrived, 20, "all receipts")


def test_a_broker_that_is_away_is_waited_for(bench: Bench) -> None:
    """What was kept meanwhile is uploaded when it comes back."""
    bench.start()
    bench.broker.go_away()
    bench.fill(2)
    bench.uploader.wake()
    bench.broker.come_back()
    wait_until(bench.all_arrived, 10, "all receipts")


def test_an_expired_grant_is_not_used(bench: Bench) -> None:
    """Late answers are passed over, and asked for again."""
    bench.cloud.grant_s = -1.0
    bench.fill(1)
    bench.start()
    wait_until(lambda: bench.events.count("upload.grant-expired") >= 1, 10, "the grant to be passed over")
    assert bench.store.order == []
    bench.cloud.grant_s = 900.0
    wait_until(bench.all_arrived, 10, "the receipt")


def test_a_forgotten_sample_leaves_the_box(bench: Bench) -> None:
    """Law 11: what was forgotten in the cloud is not kept on the box."""
    bench.fill(1)
    bench.cloud.forgotten = {bench.ids[0]}
    bench.start()
    wait_until(lambda: bench.outbox.waiting() == 0, 10, "the row to go")
    assert bench.store.order == []
    assert bench.events.count("upload.not-used") == 1


def test_receipts_and_grants_may_come_late_twice_or_for_nothing(bench: Bench) -> None:
    """Repeated and foreign answers do no harm."""
    bench.fill(2)
    bench.start()
    wait_until(bench.all_arrived, 10, "all receipts")
    for _ in range(2):
        bench.cloud.receipt_for(DEVICE, bench.ids[0])
        bench.cloud.receipt_for(DEVICE, "f" * 64)
    bench.cloud.receipt_for("box-2", bench.ids[0])
    bench.fill(1)
    wait_until(bench.all_arrived, 10, "the next receipt")
    assert bench.counters.value(RECEIPTS) == 3


def test_the_http_client_tells_refused_from_away(store: PutServer) -> None:
    """A wrong URL needs another grant; no answer needs patience. No signature is ever told."""
    putter = HttpPutter()
    putter.put(f"{store.url}/x?signature=secret", b"1", "image/jpeg")
    assert store.objects == {"/x": b"1"}
    store.refused_paths.add("/y")
    with pytest.raises(UploadRefused) as refused:
        putter.put(f"{store.url}/y?signature=secret", b"1", "image/jpeg")
    with pytest.raises(UploadRefused):
        putter.put("ftp://nowhere/x", b"1", "image/jpeg")
    store.stop()
    putter.close()
    with pytest.raises(StoreAway) as away:
        putter.put(f"{store.url}/x?signature=secret", b"1", "image/jpeg")
    assert "secret" not in f"{refused.value} {away.value}"


def test_the_twin_of_the_client_behaves_alike() -> None:
    """The in-memory store keeps, refuses and is away on demand."""
    putter = MemoryPutter()
    putter.put("a", b"1", "image/jpeg")
    putter.refused.add("b")
    with pytest.raises(UploadRefused):
        putter.put("b", b"1", "image/jpeg")
    putter.is_away = True
    with pytest.raises(StoreAway):
        putter.put("c", b"1", "image/jpeg")
    putter.close()
    assert putter.objects == {"a": b"1"}
