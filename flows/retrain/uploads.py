"""Read what a run's machine has put into the bucket: events, its result, or why it gave up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from fleet_contracts import decode, keys
from fleet_contracts.errors import ContractError
from fleet_contracts.training import RunEvent, TrainPlan
from flows.errors import StoreMissing
from flows.store.base import ObjectStore
from trainer.report_back import CheckpointNote

log = logging.getLogger("whetstone.retrain")


@dataclass(slots=True)
class Uploads:
    """Follow one run's objects; `read` counts the event segments read so far."""

    store: ObjectStore
    plan: TrainPlan
    read: int = 0

    def new_events(self) -> Iterator[RunEvent]:
        """Yield every event that came since; segments are numbered without gaps."""
        while self.read < keys.MAX_EVENT_SEGMENTS:
            key = keys.run_event(self.plan.task_id, self.plan.run_id, self.read)
            try:
                event = decode(RunEvent, self.store.get(key), where=key)
            except StoreMissing:
                return
            self.read += 1
            yield event

    def has_result(self) -> bool:
        """Tell whether the run is done: its result is written last."""
        return self.store.stat(self._key("result.json")) is not None

    def saved(self) -> tuple[int, int] | None:
        """Return stage and epoch of the newest whole checkpoint, None where none can be read."""
        try:
            content = self.store.get(self._key("checkpoint.json"))
            note = decode(CheckpointNote, content, where="checkpoint.json")
        except StoreMissing:
            return None
        except ContractError as error:
            log.warning("retrain.note_unreadable run=%s error=%s", self.plan.run_id, error)
            return None
        return note.stage, note.epoch

    def failure(self) -> RunEvent | None:
        """Return why the trainer gave up, None where it did not."""
        try:
            content = self.store.get(self._key("failure.json"))
        except StoreMissing:
            return None
        return decode(RunEvent, content, where="failure.json")

    def forget_failure(self) -> None:
        """Let the run be tried again."""
        self.store.delete(self._key("failure.json"))

    def _key(self, name: str) -> str:
        return keys.run(self.plan.task_id, self.plan.run_id, name)


def why_of(failure: RunEvent) -> str:
    """Return why a trainer gave up, in its own words."""
    return str(failure.data.get("error", "no reason given"))
