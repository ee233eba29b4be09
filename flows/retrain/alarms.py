"""Call a person when a run's GPU has too little to do: by log, flow run, event and record."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from fleet_contracts import keys
from fleet_contracts.training import RunEvent, TrainPlan
from flows.context import Context
from flows.errors import FlowsError
from flows.events import EventSink, PrefectEvents
from flows.gpus.alarm import Starved, starved
from flows.retrain.showing import unharmed

log = logging.getLogger("whetstone.retrain")

EVENT = "whetstone.gpus.starved"
Show = Callable[[str, str, str], None]
"""Shows a page: its key, its Markdown, its description."""


class Alarms:
    """Listen to a run's events and raise an alarm once for each diagnosis.

    Args:
        ctx: the installation.
        plan: the run; one without a GPU raises no alarm.
        show: where a page is shown to people.
        events: who is told.
    """

    def __init__(self, ctx: Context, plan: TrainPlan, show: Show, events: EventSink | None = None) -> None:
        self._ctx = ctx
        self._plan = plan
        self._show = show
        self._events = events or PrefectEvents()
        self._heard: list[RunEvent] = []
        self._raised: set[str] = set()

    def heard(self, event: RunEvent) -> None:
        """Take one event of the run, in order."""
        self._heard.append(event)
        offer = self._plan.offer
        if event.kind not in ("epoch", "watch") or offer is None or offer.gpu_count == 0:
            return
        alarm = starved(self._heard, self._plan.watch)
        if alarm is not None and alarm.kind not in self._raised:
            self._raised.add(alarm.kind)
            self._raise(alarm)

    def _raise(self, alarm: Starved) -> None:
        plan, said = self._plan, {**alarm.to_json(), "run_id": self._plan.run_id}
        log.warning("retrain.gpu_starved run=%s %s", plan.run_id, alarm.line())
        try:
            key = keys.journal(
                plan.task_id, "alarms", f"{plan.run_id}-{alarm.epoch}-{alarm.kind}".replace(" ", "-")
            )
            self._ctx.store.put(key, json.dumps(said, indent=1).encode())
        except FlowsError as error:
            log.warning("retrain.alarm_not_kept run=%s error=%s", plan.run_id, error)
        with unharmed(f"alarm of {plan.run_id}"):
            self._events.emit(EVENT, plan.task_id, said)
            page = f"# {plan.run_id}: the GPU has too little to do\n\n{alarm.line()}\n"
            self._show(f"{plan.run_id}-alarm", page, "A GPU that is paid for and little used")
