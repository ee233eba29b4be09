"""Do whole runs from tickets: real children, a store in memory, and every way to be interrupted."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest

from fleet_contracts.base import decode
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate
from fleet_contracts.training import RunRecord
from tests.trainer.dying import dies_after
from tests.trainer.store import RunStore
from trainer.backend_job import BackendEvent, BackendResult
from trainer.errors import DatasetRefused, StartRefused, TicketRefused, WrongContent
from trainer.run import run_ticket

Trained = tuple[BackendResult, list[BackendEvent]]


@pytest.fixture
def weights(trained: Trained) -> bytes:
    """Return start weights."""
    return trained[0].weights.read_bytes()


def finished(store: RunStore) -> tuple[Candidate, RunRecord]:
    """Return the candidate and the record that lie in the store, checked against the files beside them."""
    result, record = store.get("result.json"), store.get("run.json")
    assert result is not None
    assert record is not None
    candidate = decode(Candidate, result, where="result.json")
    assert sha256_of(store.get("model.onnx") or b"") == candidate.model_id
    assert sha256_of(store.get("weights.pt") or b"") == candidate.weights_sha256
    return candidate, decode(RunRecord, record, where="run.json")


def test_a_run_ends_with_a_candidate_in_the_store(weights: bytes, tmp_path: Path) -> None:
    """A ticket is enough to fetch, train, export and send; the result lies there last."""
    store = RunStore(weights)
    candidate = run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    kept, record = finished(store)
    assert kept == candidate
    assert record.state == "finished"
    assert [row.epoch for row in record.epochs] == [1, 2]
    assert all((row.batch, row.image_size, row.workers) == (4, 64, 0) for row in record.epochs)
    assert all(0 < row.data_wait_share < 1 for row in record.epochs)
    assert record.data_flow is not None
    assert record.data_flow.fetched_bytes == sum(map(len, (weights, *store.shards)))
    assert record.data_flow.hit_rate == 0.0
    assert candidate.parity.images > 0
    assert candidate.latency[0].p50_ms > 0
    assert store.events() == ["started", "epoch", "epoch", "exported", "finished", "finished"]
    puts = [url for verb, url, _ in store.wire.log if verb == "PUT"]
    assert puts[-1] == store.url("result.json")


def test_a_second_run_of_a_finished_ticket_trains_nothing(weights: bytes, tmp_path: Path) -> None:
    """Doing a run twice has the effect of once, on another machine too (law 2)."""
    store = RunStore(weights, stages=(1,))
    first = run_ticket(store.ticket_file(tmp_path), tmp_path / "here", wire=store.wire)
    puts = len([entry for entry in store.wire.log if entry[0] == "PUT"])
    second = run_ticket(store.ticket_file(tmp_path), tmp_path / "there", wire=store.wire)
    assert second == first
    assert len([entry for entry in store.wire.log if entry[0] == "PUT"]) == puts


def test_a_run_goes_on_elsewhere_from_the_uploaded_checkpoint(weights: bytes, tmp_path: Path) -> None:
    """When the machine is lost, another one continues with at most one epoch repeated, and events go on."""
    store = RunStore(weights, stages=(2, 3))
    store.interrupt(tmp_path / "lost", lambda: b'"stage":1' in (store.get("checkpoint.json") or b""))
    assert store.get("result.json") is None
    shutil.rmtree(tmp_path / "lost")
    done_before = store.events().count("epoch")
    run_ticket(store.ticket_file(tmp_path), tmp_path / "new", wire=store.wire)
    _, record = finished(store)
    assert [row.epoch for row in record.epochs] == [1, 2, 3, 4, 5]
    assert store.events().count("epoch") <= 5 + 1
    assert done_before >= 3
    assert record.resumes


def test_a_child_killed_in_a_run_is_started_again(
    weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL of the training child costs at most one epoch and the run ends well."""
    death = dies_after(monkeypatch, tmp_path / "died", "epoch", 2)
    store = RunStore(weights, stages=(4,))
    run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    assert death.fired
    _, record = finished(store)
    assert [row.epoch for row in record.epochs] == [1, 2, 3, 4]
    assert store.events().count("epoch") <= 5
    assert store.events().count("resumed") == 1


def test_a_failed_run_says_why_in_the_store(weights: bytes, tmp_path: Path) -> None:
    """A run that cannot go on leaves its reason as failure.json and a closed record."""
    store = RunStore(b"these are not weights")
    with pytest.raises(StartRefused):
        run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    assert b"checkpoint" in (store.get("failure.json") or b"")
    record = decode(RunRecord, store.get("run.json") or b"", where="run.json")
    assert record.state == "failed"
    assert store.get("result.json") is None


def test_a_tampered_shard_is_refused(weights: bytes, tmp_path: Path) -> None:
    """Bytes that do not have the promised hash never reach training."""
    store = RunStore(weights)
    store.put("shard-0", bytes(reversed(store.shards[0])))
    with pytest.raises(WrongContent, match="shard-0"):
        run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    assert store.get("result.json") is None


def test_a_manifest_of_another_snapshot_is_refused(weights: bytes, tmp_path: Path) -> None:
    """The manifest must have the hash that the plan names."""
    store = RunStore(weights)
    store.put("manifest.jsonl", RunStore(weights, splits={"train": 4}).get("manifest.jsonl") or b"")
    with pytest.raises(TicketRefused, match="snapshot"):
        run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)


def test_shards_that_lack_a_member_are_refused(weights: bytes, tmp_path: Path) -> None:
    """A sample that no shard holds ends the run with its id."""
    store = RunStore(weights)
    ticket = store.ticket()
    short = ticket.model_copy(update={"shards": ticket.shards[:1]})
    with pytest.raises(DatasetRefused, match="no such member"):
        run_ticket(store.ticket_file(tmp_path, short), tmp_path / "work", wire=store.wire)


def test_a_work_folder_serves_one_trainer(weights: bytes, tmp_path: Path) -> None:
    """A second trainer in the same folder is refused, so that two never write one checkpoint."""
    store = RunStore(weights)
    (tmp_path / "work").mkdir()
    with (tmp_path / "work" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TicketRefused, match="another trainer"):
            run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
