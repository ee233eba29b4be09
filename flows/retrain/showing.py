"""Show people in Prefect how a run goes; no outage of Prefect's holds or fails a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fleet_contracts.training import RunEvent, TrainPlan
from flows.retrain.progress import share_done

log = logging.getLogger("whetstone.retrain")

PAUSE_SECONDS = 60.0
"""After a failure nothing is shown for so long: Prefect's client retries for a while by itself each time."""


@contextmanager
def unharmed(what: str) -> Iterator[None]:
    """Log what Prefect's client raises in the block instead of passing it on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a page is for people; whatever stops it, the run goes on
        log.warning("retrain.not_shown what=%s error=%r", what, error)


class ProgressBar:
    """Be the progress artifact of one run in one flow run.

    Args:
        plan: the run.
        clock: seconds that only go forward.
    """

    def __init__(self, plan: TrainPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._clock = clock
        self._events: list[RunEvent] = []
        self._artifact: Any = None
        self._not_before = clock()
        self._show(0.0)

    def heard(self, event: RunEvent) -> None:
        """Take one event of the run, in order."""
        self._events.append(event)
        self._show(share_done(self._plan, self._events))

    def finish(self) -> None:
        """Show that all is done, though Prefect was away a moment ago."""
        self._not_before = self._clock()
        self._show(100.0)

    def _show(self, share: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self._clock() < self._not_before:
            return
        run = self._plan.run_id
        # A failure leaves this in the future.
        self._not_before = self._clock() + PAUSE_SECONDS
        with unharmed(f"progress of {run}"):
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    progress=share, key=f"{run}-progress", description=f"Training {run}"
                )
            else:
                update_progress_artifact(artifact_id=self._artifact, progress=share)
            self._not_before = self._clock()
