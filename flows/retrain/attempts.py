"""Work on a run as one of its attempts, and close it when no further attempt would fare better.

An error that passes (a service that is away, a killed process) leaves the run active: the next flow goes on
with it. One that would come again closes it as failed with its reason, or the task would be held for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from detection.errors import DetectionError
from fleet_contracts.errors import ContractError
from flows.context import Context
from flows.database.schema import RunRow
from flows.errors import DatabaseAway, FlowsError, StoreAway
from flows.gpus.errors import LeaseEnded, ProviderAway, TokenRefused
from flows.retrain.errors import TrainingFailed
from flows.retrain.runs import MOST_ATTEMPTS, close_run, take_run, touching, uncount_attempt
from trainer.errors import TrainerError

log = logging.getLogger("whetstone.retrain")

PASSING = (StoreAway, DatabaseAway, ProviderAway, TokenRefused, LeaseEnded)
NAMED = (FlowsError, TrainerError, ContractError, DetectionError)
"""Errors of ours say what is wrong; any other may be the process's own and is left to the next attempt."""


@contextmanager
def working(ctx: Context, run_id: str, flow_run: str) -> Iterator[None]:
    """Count one more attempt and touch the run while the block works on it.

    Raises:
        TrainingFailed: too many attempts came to no end; the run is closed.
    """
    taken = take_run(ctx, run_id, flow_run)
    with touching(ctx, run_id), _closing(ctx, run_id):
        _require_few(taken)
        yield


@contextmanager
def _closing(ctx: Context, run_id: str) -> Iterator[None]:
    try:
        yield
    except PASSING:
        # A long outage must not use the attempts up; where the database is away too, one more is counted.
        with suppress(FlowsError):
            uncount_attempt(ctx, run_id)
        raise
    except NAMED as error:
        log.warning("retrain.failed run=%s error=%s", run_id, error)
        close_run(ctx, run_id, "failed", f"{type(error).__name__}: {error}"[:2000])
        raise


def _require_few(run: RunRow) -> None:
    if run.attempts > MOST_ATTEMPTS:
        raise TrainingFailed(
            expected=f"an end within {MOST_ATTEMPTS} attempts",
            got=f"attempt {run.attempts}",
            where=run.run_id,
            now="See the flow's log for why its attempts die, then ask for the run again.",
        )
