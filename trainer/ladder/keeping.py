"""Keep the rungs that a stage has taken, so that another parent, here or elsewhere, begins where it was."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fleet_contracts.training import RunEvent
from trainer.backend_job import BackendEvent, BackendJob, write_whole
from trainer.ladder.choose import Rung
from trainer.ladder.expect import load_of

RUNGS_FILE = "rungs.json"
_log = logging.getLogger("whetstone.trainer")
Count = Annotated[int, Field(ge=0)]


class Taken(BaseModel):
    """Be one rung as it was taken: the data of its "rung" event, in the record and in the stage's folder.

    `load` is how heavy a step was when memory ran out (see `load_of`); `foreseen` says that no memory ran
    out in this stage, but that it would have, by what an earlier one showed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rung: str
    reason: str
    kind: Literal["device", "host"]
    moment: str = ""
    epoch: Count = 0
    step: Count = 0
    seen_bytes: Count = 0
    limit_bytes: Count = 0
    asked_bytes: Count = 0
    expected_bytes: Count | None = None
    cause: str = ""
    error: str = ""
    changed: dict[str, tuple[Any, Any]]
    must_show: dict[str, Any] = Field(default_factory=dict)
    ships_changed: bool = False
    foreseen: bool = False
    load: float = 0.0

    @classmethod
    def of(cls, rung: Rung, before: BackendJob, *, foreseen: bool = False) -> Taken:
        """Describe a rung taken from a job."""
        seen = rung.seen
        return cls(
            rung=rung.name, reason=rung.reason, kind=seen.kind, moment=seen.moment, epoch=seen.epoch,
            step=seen.step, seen_bytes=seen.seen_bytes, limit_bytes=seen.limit_bytes,
            asked_bytes=seen.asked_bytes, expected_bytes=rung.expected_bytes, cause=seen.cause,
            error=seen.error, changed=rung.changed, must_show=rung.must_show, ships_changed=rung.ships,
            foreseen=foreseen, load=load_of(before),
        )  # fmt: skip

    def event(self) -> BackendEvent:
        """Return the event that tells about it."""
        return BackendEvent("rung", self.epoch, self.model_dump(mode="json"))

    def apply(self, job: BackendJob) -> BackendJob:
        """Return the job as it was changed."""
        values = job.model_dump()
        for name, (_, new) in self.changed.items():
            field, _, inner = name.partition(".")
            if inner:
                values[field] = {**values[field], inner: new}
            else:
                values[field] = new
        return BackendJob.model_validate(values)


_LIST: TypeAdapter[tuple[Taken, ...]] = TypeAdapter(tuple[Taken, ...])


def read_taken(folder: Path) -> tuple[Taken, ...]:
    """Return the rungs kept in a stage's folder; none where the file is missing or not ours."""
    try:
        return _LIST.validate_json((folder / RUNGS_FILE).read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        _log.warning("trainer.rungs_unreadable folder=%s error=%s", folder, error)
        return ()


def write_taken(folder: Path, taken: tuple[Taken, ...]) -> None:
    """Keep the rungs, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / RUNGS_FILE, _LIST.dump_json(taken))


def taken_of_record(events: Iterable[RunEvent], stage: int) -> tuple[Taken, ...]:
    """Return the rungs of one stage that a run's record holds; what cannot be read is left out."""
    found = []
    for event in events:
        if event.data.get("stage") != stage:
            continue
        try:
            found.append(Taken.model_validate(event.data))
        except ValidationError as error:
            _log.warning("trainer.rung_unreadable event=%s error=%s", event.number, error)
    return tuple(found)
