"""Lose nothing of a run's record to a parent that is killed, and nothing of a run to one odd line."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from fleet_contracts.base import decode, encode
from fleet_contracts.ids import sha256_of
from fleet_contracts.training import MemoryPolicy, RunRecord
from tests.trainer.store import RunStore
from trainer.backend_job import CHECKPOINT_FILE, EVENTS_FILE, BackendEvent, BackendResult
from trainer.following import EventTail, said_so_far
from trainer.journal import Journal
from trainer.report_back import CheckpointNote, Reporter, SlotNote, read_note
from trainer.run import run_ticket
from trainer.stages import StageRun, job_of, ladder_of, run_stages, stage_folder, stage_position
from trainer.ticket_desk import TicketDesk

Trained = tuple[BackendResult, list[BackendEvent]]


def epoch(number: int, **data: object) -> BackendEvent:
    """Return what a child says of an epoch."""
    told = {"seconds": 1.0, "images_per_second": 2.0, "learning_rate": 0.1, "losses": {"box": 1.0 * number},
            "peak_memory_bytes": 0, **data}  # fmt: skip
    return BackendEvent("epoch", number, told)


def epochs_of(journal: Journal) -> list[int]:
    """Return the epochs in a journal's record."""
    return [row.epoch for row in journal.record.epochs]


def test_the_next_parent_tells_what_a_killed_one_had_not_read() -> None:
    """Epochs and findings that the record lacks come into it, at their places; what it has comes once."""
    store = RunStore(b"weights", stages=(2, 4))
    said = [
        BackendEvent("started", 0, {"versions": {}, "device": "cpu"}), epoch(1), epoch(2),
        BackendEvent("watch", 2, {"kind": "loader", "why": "slow"}), epoch(3),
        BackendEvent("resumed", 2, {"images": 0}), epoch(3, seconds=9.0), epoch(4),
    ]  # fmt: skip
    journal = Journal(store.plan, None, 0)
    for one in (said[0], said[1], said[7]):
        journal.heard(one, stage=1)
    assert epochs_of(journal) == [3, 6]
    late = journal.untold(said, stage=1)
    assert [(one.kind, one.epoch) for one in late] == [
        ("epoch", 2),
        ("watch", 2),
        ("resumed", 2),
        ("epoch", 3),
    ]
    for one in late:
        journal.heard(one, stage=1, late=True)
    assert epochs_of(journal) == [3, 4, 5, 6]
    assert journal.record.epochs[2].seconds == 9.0, "the epoch as it was trained last"
    assert journal.untold(said, stage=1) == []


def test_epochs_that_were_trained_anew_are_not_told() -> None:
    """What a later start went back behind is no part of the run."""
    journal = Journal(RunStore(b"weights", stages=(9,)).plan, None, 0)
    said = [epoch(1), epoch(2), epoch(3), BackendEvent("rollback", 1, {"why": "nan"}), epoch(2, seconds=5.0)]
    assert [(one.kind, one.epoch) for one in journal.untold(said, stage=0)] == [
        ("epoch", 1), ("rollback", 1), ("epoch", 2)
    ]  # fmt: skip


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    """What a killed child left of a line neither ends the parent nor swallows the next child's first event."""
    file = tmp_path / EVENTS_FILE
    file.write_text(epoch(1).to_line() + epoch(2).to_line()[:20])
    heard: list[BackendEvent] = []
    tail = EventTail(file, heard.append)
    with file.open("a") as stream:
        stream.write(epoch(3).to_line())
    tail.read()
    assert [one.epoch for one in heard] == [3]
    assert [one.epoch for one in said_so_far(file)] == [1, 3]


def test_a_loss_that_is_no_number_does_not_end_the_parent() -> None:
    """An infinite validation loss is left out of the record; the run's documents know finite numbers alone."""
    line = epoch(1, val={"box": math.inf, "cls": 0.5}, more=[math.nan]).to_line()
    journal = Journal(RunStore(b"weights").plan, None, 0)
    event = journal.heard(BackendEvent.from_line(line), stage=0)
    assert journal.record.epochs[0].val == {"cls": 0.5}
    assert event.data["val"] == {"box": None, "cls": 0.5}
    assert json.loads(encode(journal.record))["epochs"][0]["val"] == {"cls": 0.5}


def record_in(store: RunStore) -> RunRecord:
    """Return the record that lies in the store."""
    return decode(RunRecord, store.get("run.json") or b"", where="run.json")


def test_a_later_stage_without_its_checkpoint_goes_back_to_the_one_before(
    trained: Trained, tmp_path: Path
) -> None:
    """On another machine, with no checkpoint that can be continued, stage 1 does not begin from stage 0's start."""
    store = RunStore(trained[0].weights.read_bytes(), stages=(1, 8))
    folder = tmp_path / "here"
    store.interrupt(folder, lambda: b'"stage":1' in (store.get("checkpoint.json") or b""))
    note = read_note(TicketDesk(store.ticket(), store.wire))
    assert note is not None
    store.put(note.slot, b"whole, and of a format of tomorrow")
    sound = {"sha256": sha256_of(b"whole, and of a format of tomorrow"), "size_bytes": 34, "previous": None}
    store.put("checkpoint.json", encode(note.model_copy(update=sound)))
    there = tmp_path / "there"
    run_ticket(store.ticket_file(tmp_path), there, wire=store.wire)
    record = record_in(store)
    assert [row.epoch for row in record.epochs] == list(range(1, 10))
    assert (stage_folder(there, 0) / "backend-result.json").is_file(), "stage 0 was trained here"
    assert any("trained again" in str(one.data["why"]) for one in record.watch)
    assert list(stage_folder(there, 1).glob("*.refused"))

    # On the first machine the record can lack what a killed parent had not told; its folder knows.
    rows = [row for row in record.epochs if row.epoch != 1]
    bare = record.model_copy(update={"epochs": tuple(rows), "state": "running", "versions": {}, "device": ""})
    del store.wire.objects[store.url("result.json")]
    store.put("run.json", encode(bare))
    again = run_ticket(store.ticket_file(tmp_path), there, wire=store.wire)
    assert again.model_id == sha256_of(store.get("model.onnx") or b"")
    healed = record_in(store)
    assert [row.epoch for row in healed.epochs] == list(range(1, 10))
    assert healed.device == "cpu"
    assert [one.data for one in healed.watch] == [one.data for one in record.watch], "told once"


def test_a_folder_knows_how_far_its_checkpoint_is(tmp_path: Path) -> None:
    """What lies here gives way to an uploaded checkpoint that is further, and only then."""
    assert stage_position(tmp_path, 3) == (-1, 0)
    for stage, said in enumerate([[epoch(1), epoch(2)], [epoch(1), epoch(2), BackendEvent("resumed", 1)]]):
        folder = stage_folder(tmp_path, stage)
        folder.mkdir()
        (folder / CHECKPOINT_FILE).touch()
        (folder / EVENTS_FILE).write_text("".join(one.to_line() for one in said))
    assert stage_position(tmp_path, 3) == (1, 1)
    slot = {"sha256": "a" * 64, "size_bytes": 1, "stage": 1}
    previous = SlotNote(slot="checkpoint-a.pt", epoch=1, **slot)
    note = CheckpointNote(slot="checkpoint-b.pt", epoch=2, previous=previous, **slot)
    assert note.beyond((1, 1)).previous is None, "what lies here is as far"
    assert note.beyond((1, 0)) == note


def test_no_run_goes_down_to_a_model_that_nobody_registered(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that names smaller models gives a run none (law 5), and the record says so."""
    store = RunStore(b"weights")
    policy = MemoryPolicy(smaller_models=("yolo11n.yaml",), smaller_images=(32,))
    plan = store.plan.model_copy(update={"memory_policy": policy})
    journal, desk = Journal(plan, None, 0), TicketDesk(store.ticket(), store.wire)
    data = Path(trained[0].weights).parent
    monkeypatch.setattr("trainer.stages.open_dataset", lambda _: type("Data", (), {"train_images": 9}))
    with Reporter(desk) as reporter:
        run = StageRun(plan, tmp_path / "start.pt", data, tmp_path, journal, reporter, threading.Event())
        ladder = ladder_of(run, 0, job_of(run, 0, tmp_path / "start.pt"))
        monkeypatch.setattr("trainer.stages._run_from", lambda *_: trained[0])
        run_stages(run)
        run_stages(run)
    assert ladder.policy.smaller_models == ()
    assert ladder.policy.smaller_images == (32,)
    assert [one.data["kind"] for one in journal.record.watch] == ["policy"]
