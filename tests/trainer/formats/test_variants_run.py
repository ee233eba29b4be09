"""Make every format in a real run: what the child makes is measured, sent and described by its own hash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection.model_file import read_model
from fleet_contracts.base import decode, encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate
from tests.trainer.conftest import job_for
from tests.trainer.store import RunStore
from trainer.backend_job import BackendEvent, BackendResult
from trainer.dataset import DatasetOnDisk
from trainer.formats.names import FILE_NAMES
from trainer.run import run_ticket
from trainer.ultralytics_backend.variants import make_variants

Trained = tuple[BackendResult, list[BackendEvent]]


@pytest.fixture(scope="module")
def delivered(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunStore, Candidate]:
    """Return a finished run that was asked for every format, and its candidate."""
    folder = tmp_path_factory.mktemp("run")
    store = RunStore(trained[0].weights.read_bytes(), stages=(1,), splits={"train": 14, "val": 3, "golden": 2})
    store.plan = store.plan.model_copy(update={"precisions": ("fp32", "fp16", "int8")})
    store.put("plan.json", encode(store.plan))
    return store, run_ticket(store.ticket_file(folder), folder / "work", wire=store.wire)


def test_every_format_is_sent_as_it_is_described(delivered: tuple[RunStore, Candidate]) -> None:
    """Each file in the store has the hash and size of its description, a latency and a parity of its own."""
    store, candidate = delivered
    assert [one.precision for one in candidate.variants] == ["fp16", "int8"]
    for one in candidate.variants:
        assert one.name == FILE_NAMES[one.precision]
        content = store.get(one.name) or b""
        assert (sha256_of(content), len(content)) == (one.model_id, one.onnx_bytes)
        assert one.latency[0].p50_ms > 0
        assert one.parity.compared > 0
        assert one.parity.mean_box_error_px is not None
        assert one.parity.reference == "trained weights in float32"
        assert one.kept_layers
    fp16, int8 = candidate.variants
    assert fp16.parity.max_score_error < 0.03
    assert fp16.onnx_bytes < candidate.onnx_bytes
    assert len({candidate.model_id, fp16.model_id, int8.model_id}) == 3
    assert decode(Candidate, store.get("result.json") or b"", where="result.json") == candidate
    puts = [url for verb, url, _ in store.wire.log if verb == "PUT"]
    assert puts[-1] == store.url("result.json")


def test_progress_of_each_format_is_in_the_events(delivered: tuple[RunStore, Candidate]) -> None:
    """A person following the run reads which format is being made, how it was calibrated and what it costs."""
    store, _ = delivered
    told = [json.loads(content)["data"] for url, content in sorted(store.wire.objects.items()) if "events/" in url]
    formats = [data for data in told if "precision" in data and "onnx_sha256" in data]
    assert [data["precision"] for data in formats] == ["fp16", "int8"]
    assert formats[1]["method"] in {"minmax", "percentile", "mse"}
    assert 0.0 <= formats[1]["disagreement"] <= 1.0
    assert any("calibrating" in str(data.get("step")) for data in told)


def test_a_format_that_cannot_be_made_is_told_and_costs_nothing_else(
    dataset: DatasetOnDisk, trained: Trained, tmp_path: Path
) -> None:
    """When the float file cannot be converted the reason is an event, no half file stays, and others go on."""
    job = job_for(dataset, tmp_path, precisions=("int8", "fp16"))
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    events: list[BackendEvent] = []
    spec = read_model(trained[0].onnx or Path()).spec
    assert make_variants(job, None, broken, spec, events.append) == ()
    failed = {event.data["precision"]: event.data["failed"] for event in events if "failed" in event.data}
    assert set(failed) == {"int8", "fp16"}
    assert all(failed.values())
    assert not list(tmp_path.glob("model-*.onnx"))
