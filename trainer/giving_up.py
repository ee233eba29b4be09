"""Tell the store why a trainer gives up; that it cannot be told must not hide the reason itself."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import JsonValue

from fleet_contracts.base import encode
from fleet_contracts.errors import ContractError
from trainer.errors import MachineUnfit, TicketRefused, TrainerError, TransferFailed
from trainer.journal import Journal
from trainer.report_back import Reporter

_log = logging.getLogger("whetstone.trainer")
_SHOWN = 2000


def of_disk(error: OSError, work_dir: Path) -> TransferFailed:
    """Return what a failure of this machine's disk means to the run."""
    return TransferFailed(
        expected="files that can be written and read here", got=str(error), where=str(work_dir),
        now="Free space on this disk, then start the run again, here or elsewhere.",
    )  # fmt: skip


def report_failure(reporter: Reporter, journal: Journal, error: TrainerError | ContractError) -> None:
    """Send `failure.json` last, and before it a closed record unless only this machine is to blame."""
    data: dict[str, JsonValue] = {"error": str(error)[:_SHOWN]}
    unfit = isinstance(error, MachineUnfit)
    if isinstance(error, MachineUnfit):
        data |= {"unfit": True, "reasons": [one[:_SHOWN] for one in error.reasons]}
    event = journal.event("failed", len(journal.record.epochs), data)
    reporter.event(event)
    try:
        record = encode(journal.record if unfit else journal.ended(failure=str(error)[:_SHOWN]))
        reporter.results([("run.json", record), ("failure.json", encode(event))])
    except (TransferFailed, TicketRefused) as unsent:
        _log.error("trainer.failure_not_sent error=%s", unsent)
