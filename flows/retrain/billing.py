"""Show what a run costs with its flow run in Prefect: a table of leases, kept up to date while it trains.

The table is for people. It is written from a thread, and no outage of Prefect's holds or fails a training.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from uuid import UUID

from fleet_contracts import utc_now
from flows.context import Context
from flows.gpus.bill import Bill, bill_of
from flows.gpus.leases import LeaseBook

log = logging.getLogger("whetstone.retrain")

EVERY_SECONDS = 15.0


@contextmanager
def billed(ctx: Context, task_id: str, run_id: str) -> Iterator[None]:
    """Show a run's bill from before to after the block, however that ends; inside a flow run of Prefect's."""
    page = _Page(ctx, task_id, run_id)
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(EVERY_SECONDS):
            page.update()

    # Prefect's settings are those of the context the flow runs in; a new thread would begin without them.
    here = copy_context()
    thread = threading.Thread(target=here.run, args=(keep,), name=f"bill-{run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(EVERY_SECONDS)
        page.update()


class _Page:
    """Be the artifact of one run's bill in one flow run."""

    def __init__(self, ctx: Context, task_id: str, run_id: str) -> None:
        self._ctx = ctx
        self._run_id = run_id
        self._cap = ctx.settings.task(task_id).limits.dollars or 0.0
        self._artifact: UUID | None = None
        self._shown: Bill | None = None
        self._is_away = False
        self.update()

    def update(self) -> None:
        """Write the bill as it is now, if it is another one than before."""
        try:
            bill = self._bill()
            if bill != self._shown:
                self._write(bill)
                self._shown, self._is_away = bill, False
        except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises, the training goes on
            if not self._is_away:
                log.warning("retrain.bill_not_shown run=%s error=%r", self._run_id, error)
            self._is_away = True

    def _write(self, bill: Bill) -> None:
        from prefect.artifacts import create_table_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        rows = [dict(row) for row in bill.rows]
        if self._artifact is None:
            made: Any = create_table_artifact(rows, key=f"{self._run_id}-bill", description=self._words(bill))
            self._artifact = made
            return
        content = ArtifactUpdate(data=json.dumps(rows), description=self._words(bill))
        with get_client(sync_client=True) as client:
            client.update_artifact(self._artifact, content)

    def _bill(self) -> Bill:
        return bill_of(LeaseBook(self._ctx.database).of_run(self._run_id), utc_now())

    def _words(self, bill: Bill) -> str:
        return f"Machines of {self._run_id}: {bill.line(self._cap)}"
