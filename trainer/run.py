"""Do one training run from its ticket, anywhere: the procedure of a rented machine.

(0) The caller gives a ticket file and a work folder; the same folder continues the same run.
(1) Read the ticket and take the folder's lock, so that two trainers never share it.
(2) Fetch plan and manifest and check that they belong together.
(3) If a result is already in the store, return it: doing a run twice has the effect of once.
(4) Check that this machine is what the plan was made for, before anything large is copied to it.
(5) Fetch shards and start weights, verified, and put the dataset on disk.
(6) Take the newest uploaded checkpoint if this folder has none, or only an older one.
(7) Train stage after stage; a child that dies is started again from its last checkpoint.
(8) Measure latency and describe the candidate.
(9) Send model, weights and record, and the result last: its presence is the commit.
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from fleet_contracts.base import decode, encode, utc_now
from fleet_contracts.errors import ContractError
from fleet_contracts.ids import sha256_of
from fleet_contracts.judging import Candidate
from fleet_contracts.manifest import decode_manifest
from fleet_contracts.training import SnapshotHeader, SnapshotMember, TrainPlan, TrainTicket
from trainer.backend_job import ONNX_FILE, BackendEvent, BackendResult
from trainer.beginning import Beginning
from trainer.cache import ObjectCache
from trainer.dataset import place_image
from trainer.earlier import calmly, earlier_record, earlier_result, next_event, share_done
from trainer.errors import TicketRefused, TrainerError, TransferFailed
from trainer.fetch import Fetcher
from trainer.fitness.check import DATASET, Check
from trainer.giving_up import of_disk, report_failure
from trainer.journal import Journal
from trainer.latency import measure_latencies
from trainer.planning.smoke import few_members
from trainer.report_back import CheckpointNote, Reporter, fetch_newest, read_note, slot_after
from trainer.stages import StageRun, run_stages, stage_checkpoint, stage_position
from trainer.staging import DataOrder, stage_dataset
from trainer.ticket_desk import TicketDesk
from trainer.wire import HttpWire, Wire

T = TypeVar("T")
_log = logging.getLogger("whetstone.trainer")


@dataclass(frozen=True, slots=True)
class _Inputs:
    plan: TrainPlan
    header: SnapshotHeader
    members: tuple[SnapshotMember, ...]
    start: Path
    dataset: Path


@dataclass(frozen=True, slots=True)
class RunOrder:
    """Hold all a run is started with.

    Args:
        ticket: file with a `TrainTicket`; a secret.
        work_dir: folder for everything the run keeps; reuse it to continue.
        wire: the way to the store; HTTP when None.
        stop: when set, the run ends at once and can be continued later.
        cache: keeps what was fetched, for other runs of this machine too; one of the run's own when None.
        check: looks whether the machine is what the plan was made for.
        beginning: times how the run begins.
    """

    ticket: Path
    work_dir: Path
    wire: Wire | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    cache: ObjectCache | None = None
    check: Check = field(default_factory=Check)
    beginning: Beginning = field(default_factory=Beginning)


def run_ticket(
    ticket_path: Path,
    work_dir: Path,
    *,
    wire: Wire | None = None,
    stop: threading.Event | None = None,
    cache: ObjectCache | None = None,
) -> Candidate:
    """Train what a ticket asks for and return the candidate that was sent.

    Args:
        ticket_path: file with a `TrainTicket`; a secret.
        work_dir: folder for everything the run keeps; reuse it to continue.
        wire: the way to the store; HTTP unless a test brings another.
        stop: when set, the run ends at once and can be continued later.
        cache: keeps what was fetched, for other runs of this machine too; one of the run's own when None.

    Raises:
        TicketRefused: ticket, plan and manifest do not belong together, or another trainer has the folder.
        TransferFailed: the store cannot be reached; nothing is lost, start again.
        DatasetRefused: the data are not what the manifest says.
        BackendFailed: training failed for good; the failure was reported to the store.
        MachineUnfit: this machine is not what the plan was made for; reported likewise.
    """
    return carry_out(RunOrder(ticket_path, work_dir, wire, stop or threading.Event(), cache))


def carry_out(order: RunOrder) -> Candidate:
    """Do a run as `run_ticket` does, with all that an order may hold."""
    # (1)
    ticket = decode(TrainTicket, order.ticket.read_bytes(), where=str(order.ticket))
    with _locked(order.work_dir):
        kept = order.cache or ObjectCache(order.work_dir / "cache")
        try:
            return _run(order, TicketDesk(ticket, order.wire or HttpWire()), kept)
        finally:
            kept.close()


def _run(order: RunOrder, desk: TicketDesk, cache: ObjectCache) -> Candidate:
    work_dir, stop, beginning = order.work_dir, order.stop, order.beginning
    fetcher = Fetcher(desk, cache, pause=partial(_pause, stop))
    # (2)
    plan, header, members = _read_documents(fetcher, desk.current())
    beginning.mark("documents")
    # (3)
    done = earlier_result(desk)
    if done is not None:
        return done
    note = calmly(lambda: read_note(desk))
    journal = Journal(plan, earlier_record(desk), next_event(desk, note.next_event if note else 0))
    with Reporter(desk, next_slot=slot_after(note), before=note) as reporter:
        try:
            # (4)
            check = replace(order.check, done=share_done(plan, note))
            check(plan, desk.current(), members, work_dir, cache)
            beginning.mark("check")
            # (5)
            told = partial(_tell_download, reporter, journal)
            inputs = _stage_inputs(fetcher, desk.current(), work_dir, (plan, header, members), told)
            journal.data_came(fetcher.meter.flow())
            beginning.mark("data")
            # (6)
            here = stage_position(work_dir, len(plan.stages))
            if note is not None and (note.stage, note.epoch) > here:
                _take_checkpoint(desk, note.beyond(here), work_dir, reporter, journal)
            # (7)
            run = StageRun(
                plan, inputs.start, inputs.dataset, work_dir, journal, reporter, stop, beginning.heard
            )
            result = run_stages(run)
            # (8)
            candidate = _describe(plan, result)
        except (TrainerError, ContractError) as error:
            if not stop.is_set():
                report_failure(reporter, journal, error)
            raise
        except OSError as error:
            explained = of_disk(error, work_dir)
            if not stop.is_set():
                report_failure(reporter, journal, explained)
            raise explained from error
        # (9)
        _send(reporter, journal, candidate, result)
        return candidate


@contextmanager
def _locked(work_dir: Path) -> Iterator[None]:
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TicketRefused(
                expected="a work folder of one trainer", got="another trainer at work in it",
                where=str(work_dir), now="Wait for the other one, or end it.",
            ) from error  # fmt: skip
        yield


def _read_documents(
    fetcher: Fetcher, ticket: TrainTicket
) -> tuple[TrainPlan, SnapshotHeader, tuple[SnapshotMember, ...]]:
    plan = decode(TrainPlan, fetcher.document(lambda one: one.plan_url, "plan.json"), where="plan.json")
    if (plan.run_id, plan.task_id) != (ticket.run_id, ticket.task_id):
        raise TicketRefused(expected=f"the plan of {ticket.run_id}", got=plan.run_id, where="plan.json")
    if plan.start.sha256 != ticket.start_weights.sha256:
        raise TicketRefused(
            expected=f"start weights {plan.start.sha256}", got=ticket.start_weights.sha256, where="ticket"
        )
    content = fetcher.document(lambda one: one.manifest_url, "manifest.jsonl")
    if sha256_of(content) != plan.snapshot_id:
        raise TicketRefused(
            expected=f"snapshot {plan.snapshot_id}", got=f"a manifest with hash {sha256_of(content)}",
            where="manifest.jsonl", now="A manifest never changes under its name; cut the snapshot again.",
        )  # fmt: skip
    header, members = decode_manifest(content, where="manifest.jsonl")
    plan.class_list.require_continues(header.class_list, where="plan.json")
    return plan, header, members


def _stage_inputs(
    fetcher: Fetcher,
    ticket: TrainTicket,
    work_dir: Path,
    documents: tuple[TrainPlan, SnapshotHeader, tuple[SnapshotMember, ...]],
    told: Callable[[dict[str, float]], None],
) -> _Inputs:
    plan, header, members = documents
    fetcher.meter.wanted_bytes = sum(one.size_bytes for one in (*ticket.shards, ticket.start_weights))
    with fetcher.meter.waiting():
        weights = fetcher.object(ticket.start_weights)
    # A link of the run's own: the cache may be emptied while a child still reads it.
    start = work_dir / "start.pt"
    start.unlink(missing_ok=True)
    place_image(weights, start)
    fetcher.release(ticket.start_weights)
    wanted = few_members(members, plan.most_images)
    dataset = stage_dataset(
        DataOrder(ticket.shards, wanted, plan.class_list, work_dir / DATASET), fetcher, told
    )
    return _Inputs(plan, header, members, start, dataset.folder)


def _pause(stop: threading.Event, seconds: float) -> None:
    if stop.wait(seconds):
        raise TransferFailed(expected="to fetch the run's data", got="a request to stop", where="fetch")


def _tell_download(reporter: Reporter, journal: Journal, far: dict[str, float]) -> None:
    """Report a long download; no entry of the record, whose data flow says the same in the end."""
    gone, left = far["seconds"], far["bytes_in_all"] - far["bytes"]
    why = f"fetching data for {gone:.0f} s, {left / 2**20:.0f} MiB left"
    reporter.event(journal.event("watch", 0, {"kind": "download", "why": why, "evidence": {**far}}))


def _take_checkpoint(
    desk: TicketDesk, note: CheckpointNote, work_dir: Path, reporter: Reporter, journal: Journal
) -> None:
    """Take the newest uploaded checkpoint that is whole; say so when that is not the last one."""
    found = calmly(lambda: fetch_newest(desk, note, partial(stage_checkpoint, work_dir)))
    taken, refused = found or (None, [])
    at = taken or note
    for why in refused:
        then = "the one before it is continued" if taken else "the run starts anew"
        event = BackendEvent("watch", at.epoch, {"kind": "checkpoint", "why": f"{why}; {then}"})
        reporter.event(journal.heard(event, stage=at.stage))
    if taken is not None:
        reporter.goes_on_from(taken)
    _log.info("trainer.checkpoint_fetched taken=%s epoch=%s", taken is not None, note.epoch)


def _describe(plan: TrainPlan, result: BackendResult) -> Candidate:
    if not (result.onnx and result.onnx_sha256 and result.input_spec and result.parity):
        raise TrainerError(expected="an exported model", got="weights alone", where=plan.run_id)
    files = [result.onnx, *(result.onnx.with_name(one.name) for one in result.variants)]
    latency, *others = measure_latencies(files)
    variants = tuple(
        one.model_copy(update={"latency": (took,)}) for one, took in zip(result.variants, others, strict=True)
    )
    return Candidate(
        task_id=plan.task_id, candidate_id=plan.run_id, run_id=plan.run_id, snapshot_id=plan.snapshot_id,
        model_id=result.onnx_sha256, onnx_bytes=result.onnx.stat().st_size,
        weights_sha256=result.weights_sha256, weights_bytes=result.weights.stat().st_size,
        input_spec=result.input_spec, class_list=plan.class_list, parity=result.parity, latency=(latency,),
        variants=variants, start_sha256=plan.start.sha256, created_at=utc_now(),
    )  # fmt: skip


def _send(reporter: Reporter, journal: Journal, candidate: Candidate, result: BackendResult) -> None:
    last = sum(1 for _ in journal.record.epochs)
    reporter.event(journal.event("finished", last, {"model_id": candidate.model_id}))
    names = [ONNX_FILE, *(one.name for one in candidate.variants)]
    reporter.results([
        *((name, (result.weights.parent / name).read_bytes()) for name in names),
        ("weights.pt", result.weights.read_bytes()),
        ("run.json", encode(journal.ended())),
        ("result.json", encode(candidate)),
    ])  # fmt: skip
