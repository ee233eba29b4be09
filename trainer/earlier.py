"""Read what an earlier attempt at a run left in the store; none of it is needed to go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fleet_contracts import keys
from fleet_contracts.base import decode
from fleet_contracts.errors import ContractError
from fleet_contracts.judging import Candidate
from fleet_contracts.training import RunRecord, TrainPlan
from trainer.errors import TransferFailed
from trainer.report_back import CheckpointNote
from trainer.ticket_desk import TicketDesk
from trainer.wire import WireDown

T = TypeVar("T")
_log = logging.getLogger("whetstone.trainer")


def earlier_result(desk: TicketDesk) -> Candidate | None:
    """Return the result, where the run is done."""
    content = calmly(lambda: desk.read("result.json"))
    return decode(Candidate, content, where="result.json") if content else None


def earlier_record(desk: TicketDesk) -> RunRecord | None:
    """Return the record an earlier attempt sent, opened again."""
    content = calmly(lambda: desk.read("run.json"))
    try:
        record = decode(RunRecord, content, where="run.json") if content else None
    except ContractError as error:
        _log.warning("trainer.record_unreadable error=%s", error)
        return None
    return record.model_copy(update={"state": "running", "ended_at": None, "failure": ""}) if record else None


def next_event(desk: TicketDesk, hint: int) -> int:
    """Return the first event number nobody wrote yet; the note's number may be some events behind."""
    number = hint
    while number < keys.MAX_EVENT_SEGMENTS:
        if calmly(partial(desk.read, keys.event_name(number))) is None:
            break
        number += 1
    return number


def share_done(plan: TrainPlan, note: CheckpointNote | None) -> float:
    """Return the share of a plan's epochs whose checkpoint lies in the store."""
    epochs = [one.epochs for one in plan.stages]
    return min((sum(epochs[: note.stage]) + note.epoch) / sum(epochs), 1.0) if note is not None else 0.0


def calmly(read: Callable[[], T]) -> T | None:
    """Read something optional: a store that is away costs a resume from it, never the run."""
    try:
        return read()
    except (WireDown, TransferFailed) as error:
        _log.warning("trainer.not_read error=%s", error)
        return None
