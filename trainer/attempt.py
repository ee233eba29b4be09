"""Attempt a run once and say by an exit status what came of it."""

from __future__ import annotations

import logging

from fleet_contracts.errors import ContractError
from trainer.errors import BackendFailed, TrainerError, TransferFailed
from trainer.run import RunOrder, carry_out
from trainer.statuses import AGAIN, DONE, FAILED

_log = logging.getLogger("whetstone.trainer")


def attempt(order: RunOrder) -> int:
    """Do a run as far as it goes and return the exit status."""
    try:
        candidate = carry_out(order)
    except (TrainerError, ContractError) as error:
        return status_of(error)
    _log.info("trainer.finished candidate=%s model=%s", candidate.candidate_id, candidate.model_id)
    return DONE


def status_of(error: TrainerError | ContractError) -> int:
    """Log why a run ended and return the exit status for it."""
    _log.error("trainer.failed %s; %s", error, error.diagnostics())
    worth_it = isinstance(error, TransferFailed) or (isinstance(error, BackendFailed) and error.resumable)
    return AGAIN if worth_it else FAILED
