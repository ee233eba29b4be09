"""End oddly: full disks, devices that fail together, files that are gone, memory short at the wrong moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import wait_until
from tests.trainer.conftest import job_for
from tests.trainer.store import RunStore
from trainer import backend
from trainer.__main__ import AGAIN, main
from trainer.backend_job import CHECKPOINT_FILE, FAILURE_FILE, PREVIOUS_FILE, BackendEvent, BackendFailure
from trainer.dataset import DatasetOnDisk
from trainer.errors import MemoryExhausted, StartRefused, TransferFailed
from trainer.following import said_so_far
from trainer.journal import Journal
from trainer.ladder import Ladder, Taken
from trainer.ladder.descent import Descent
from trainer.memory import Trouble
from trainer.report_back import Reporter
from trainer.run import RunOrder, run_ticket
from trainer.ticket_desk import TicketDesk
from trainer.ultralytics_backend import checkpoint, models
from trainer.ultralytics_backend.child import _Emitter
from trainer.ultralytics_backend.edge import Edge

NAMES = ("square",)


def test_an_event_that_a_full_disk_refuses_goes_with_the_next(tmp_path: Path) -> None:
    """Saying something on a full disk does not end the training, and it is said in the end."""
    file = tmp_path / "events.jsonl"
    file.symlink_to("/dev/full")
    emit = _Emitter(file)
    emit(BackendEvent("watch", 1, {"why": "a checkpoint could not be written"}))
    file.unlink()
    emit(BackendEvent("epoch", 2))
    assert [(one.kind, one.epoch) for one in said_so_far(file)] == [("watch", 1), ("epoch", 2)]


def test_a_checkpoint_that_fails_leaves_the_disk_as_it_was(tmp_path: Path) -> None:
    """Half a file would keep a full disk full, and so the run from ever writing another one."""
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save_checkpoint(tmp_path, {"format": 2, "fingerprint": "a", "odd": threading.Lock()})
    assert list(tmp_path.iterdir()) == []


def test_two_checkpoints_are_kept_where_a_file_has_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems without hard links keep the newest and the one before, too."""
    refused: list[object] = []

    def no_links(*names: object) -> None:
        refused.append(names)
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    for number in (1, 2, 3):
        state = {"format": checkpoint.FORMAT, "fingerprint": "a", "number": number}
        checkpoint.save_checkpoint(tmp_path, state)
    kept = [checkpoint.read_checkpoint(tmp_path / name, "a") for name in (CHECKPOINT_FILE, PREVIOUS_FILE)]
    assert [one["number"] for one in kept] == [3, 2]
    assert len(refused) == 2


def test_devices_that_run_out_together_leave_one_whole_document(tmp_path: Path) -> None:
    """Eight processes that die of memory at the same step, and of each other's end, tell of memory once."""
    errors: list[BaseException] = [
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("peer " * 300),
    ]
    start = threading.Barrier(8)
    broken: list[BaseException] = []

    def die(error: BaseException) -> None:
        edge = Edge()
        start.wait()
        try:
            edge.report(error, tmp_path)
        except BaseException as odd:  # what would be a traceback in place of a document
            broken.append(odd)

    threads = [threading.Thread(target=die, args=(errors[number % 2],)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert broken == []
    told = BackendFailure.model_validate_json((tmp_path / FAILURE_FILE).read_bytes())
    assert (told.error, told.kind) == (MemoryExhausted.__name__, "device")


def test_a_document_of_failure_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """The parent then goes by the child's end, in place of ending itself."""
    (tmp_path / FAILURE_FILE).write_text('{"error": "Mem')
    assert backend._failure_in(tmp_path) is None


def test_memory_that_runs_out_after_the_last_epoch_is_no_rung(
    dataset: DatasetOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child killed in the export has it again in a fresh process: nothing of what ships is changed for it."""
    starts: list[int] = []

    def dies_once(job: Any, on_event: Any, *, stop: Any = None) -> str:
        starts.append(job.batch)
        on_event(BackendEvent("epoch" if len(starts) == 1 else "resumed", 3))
        if len(starts) < 3:
            error = MemoryExhausted(expected="a finished job", got="SIGKILL", where="here")
            error.trouble = Trouble("host", cause="killed by the kernel")
            raise error
        return "done"

    monkeypatch.setattr(backend, "run_child", dies_once)
    events: list[BackendEvent] = []
    assert backend.run_to_end(job_for(dataset, tmp_path), events.append) == "done"
    assert starts == [4, 4, 4]
    assert [one.kind for one in events] == ["epoch", "resumed", "resumed"]


def test_a_checkpoint_that_is_gone_does_not_silence_the_run(tmp_path: Path) -> None:
    """A child may set aside what waits to be sent: events and the next checkpoint still arrive."""
    store = RunStore(b"weights")
    journal = Journal(store.plan, None, 0)
    file = tmp_path / "checkpoint.pt"
    with Reporter(TicketDesk(store.ticket(), store.wire)) as reporter:
        reporter.checkpoint(tmp_path / "set aside.pt", stage=0, epoch=1, record=journal.record)
        wait_until(lambda: not reporter._waits(), 20, "the missing checkpoint to be given up")
        file.write_bytes(b"state")
        reporter.event(journal.event("epoch", 2))
        reporter.checkpoint(file, stage=0, epoch=2, record=journal.record)
        wait_until(lambda: store.get("checkpoint.json") is not None, 20, "the next checkpoint")
    assert json.loads(store.get("checkpoint.json") or b"")["epoch"] == 2
    assert store.events() == ["epoch"]


def test_a_disk_that_fails_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk while data are unpacked ends the run with a reason in the store, worth another start."""
    store = RunStore(b"weights")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.staging.place_image", full)
    with pytest.raises(TransferFailed, match="No space left") as caught:
        run_ticket(store.ticket_file(tmp_path), tmp_path / "work", wire=store.wire)
    assert "Free space" in caught.value.diagnostics()
    assert b"No space left" in (store.get("failure.json") or b"")


def test_the_first_warning_lets_what_waits_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM asks the run to stop, where it would have ended the process with a checkpoint unsent."""
    seen: list[bool] = []

    def run(order: RunOrder) -> None:
        assert order.stop is not None
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(order.stop.wait(10))
        seen.append(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        raise TransferFailed(expected="to train", got="a request to stop", where="here")

    monkeypatch.setattr("trainer.attempt.carry_out", run)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["run", "--ticket", "ticket.json", "--work", str(tmp_path)]) == AGAIN
    assert seen == [True, True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_model_is_refused_for_good() -> None:
    """A name that ultralytics does not know is the plan's fault: another start would not help."""
    with pytest.raises(StartRefused, match=r"yolo99z.yaml.*a model that ultralytics knows") as caught:
        models.build_model("yolo99z.yaml", NAMES)
    assert not caught.value.resumable


def test_memory_short_while_weights_are_read_is_not_their_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the ladder; a refusal of the start would end the run for good."""

    def short(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 1 GiB")

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(MemoryError):
        models.load_model(tmp_path / "start.pt")


def test_rungs_that_another_machine_took_hold_in_a_folder_that_knows_fewer(
    dataset: DatasetOnDisk, tmp_path: Path
) -> None:
    """The run's record is ahead of a folder that was left: its rungs are applied, and none is told again."""
    rungs = [Taken(rung="batch", reason="too large", kind="device", changed={"batch": (old, old // 2)})
             for old in (4, 2)]  # fmt: skip
    told: list[BackendEvent] = []
    job = job_for(dataset, tmp_path)
    Descent(job, Ladder(told=tuple(rungs[:1])), told.append)
    (tmp_path / "rungs.json").write_text(json.dumps([rungs[0].model_dump(mode="json")]))
    descent = Descent(job, Ladder(told=tuple(rungs)), told.append)
    assert descent.job.batch == 1
    assert told == []
