"""Follow a run's epochs from the event segments in its folder of the bucket."""

from __future__ import annotations

from demo.loop.glance import Glance
from demo.loop.show import TrainingGlance
from fleet_contracts import decode, keys
from fleet_contracts.training import RunEvent
from flows.context import Context
from flows.errors import StoreError, StoreMissing


class RunProgress:
    """Read new event segments of the newest run, one after the other."""

    def __init__(self, ctx: Context, task_id: str) -> None:
        """Take where the events lie."""
        self._ctx = ctx
        self._task_id = task_id
        self._run_id = ""
        self._next = 0
        self._seen = TrainingGlance()

    def look(self, glance: Glance) -> TrainingGlance:
        """Return how far the newest run is; a store that is away changes nothing."""
        if glance.run.run_id != self._run_id:
            self._run_id, self._next, self._seen = glance.run.run_id, 0, TrainingGlance()
        while self._run_id and self._next < keys.MAX_EVENT_SEGMENTS:
            key = keys.run_event(self._task_id, self._run_id, self._next)
            try:
                event = decode(RunEvent, self._ctx.store.get(key), where=key)
            except (StoreMissing, StoreError):
                return self._seen
            self._next += 1
            if event.kind == "epoch":
                told = event.data.get("epochs")
                self._seen = TrainingGlance(event.epoch, told if isinstance(told, int) else self._seen.epochs)
        return self._seen
