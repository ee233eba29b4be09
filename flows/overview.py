"""Gather how a task stands in one value, for the command line and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet_contracts import utc_now
from flows.captures import OPEN_OUTCOMES
from flows.champion import champion_in
from flows.classes import newest
from flows.context import Context
from flows.database.schema import (
    CandidateRow,
    CaptureRow,
    DeviceRow,
    LabelRow,
    QuarantineRow,
    RolloutRow,
    RunRow,
    SampleRow,
    TriggerRow,
)

DeviceLine = tuple[str, str, int, int, int, int, str]


@dataclass(frozen=True, slots=True)
class TaskView:
    """Hold how a task stands; texts are for people."""

    task_id: str
    class_list: str
    champion: str
    samples: int
    mined: int
    labelled: int
    quarantined: int
    trigger: str
    run: str
    candidate: str
    rollout: str
    captures: str
    devices: tuple[DeviceLine, ...]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of everything but the devices."""
        for name, value in asdict(self).items():
            if name not in ("devices", "task_id"):
                yield name.replace("_", " "), str(value)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def task_view(ctx: Context, task_id: str) -> TaskView:
    """Return how a task stands now, all from one reading of the database."""
    with ctx.database.reader() as session:
        look = _Look(session, task_id)
        champion, names = champion_in(session, task_id), newest(session, task_id)
        trigger, run = look.last(TriggerRow, TriggerRow.id), look.last(RunRow, RunRow.started_at)
        candidate = look.last(CandidateRow, CandidateRow.collected_at)
        rollout = look.last(RolloutRow, RolloutRow.started_at)
        return TaskView(
            task_id=task_id,
            class_list=f"{names.version}: {', '.join(names.names)}" if names else "none",
            champion=f"release {champion.release_version}, {champion.model_id[:12]}" if champion else "none",
            samples=look.count(SampleRow),
            mined=look.count(SampleRow, SampleRow.origin != "import"),
            labelled=look.count_labelled(),
            quarantined=look.count(QuarantineRow),
            trigger=trigger.reason if trigger else "not decided yet",
            run=_words(run.run_id, run.state, run.reason) if run else "none",
            candidate=_words(candidate.candidate_id, candidate.state) if candidate else "none",
            rollout=_words("release", rollout.release_version, rollout.state, rollout.reason)
            if rollout
            else "none",
            captures=look.captures(),
            devices=look.devices(),
        )


class _Look:
    """Ask the small questions of one task within one transaction."""

    def __init__(self, session: Session, task_id: str) -> None:
        self._session = session
        self._task_id = task_id

    def count(self, row: Any, *where: Any) -> int:
        query = select(func.count()).select_from(row).where(row.task_id == self._task_id, *where)
        return self._session.scalar(query) or 0

    def count_labelled(self) -> int:
        query = select(func.count(func.distinct(LabelRow.sample_id))).where(
            LabelRow.task_id == self._task_id, LabelRow.verified
        )
        return self._session.scalar(query) or 0

    def last(self, row: Any, order: Any) -> Any:
        query = select(row).where(row.task_id == self._task_id).order_by(order.desc()).limit(1)
        return self._session.scalars(query).first()

    def captures(self) -> str:
        """Say what boxes were asked for and still bring."""
        query = select(CaptureRow).where(
            CaptureRow.task_id == self._task_id,
            CaptureRow.outcome.in_(OPEN_OUTCOMES),
            CaptureRow.expires_at > utc_now(),
        )
        rows = self._session.scalars(query).all()
        if not rows:
            return "none open"
        asked, kept = sum(row.command["frames"] for row in rows), sum(row.frames_kept for row in rows)
        return f"{len(rows)} open, {kept} of {asked} frames"

    def devices(self) -> tuple[DeviceLine, ...]:
        query = select(DeviceRow).where(DeviceRow.task_id == self._task_id).order_by(DeviceRow.device_id)
        return tuple(_device(row) for row in self._session.scalars(query))


def _words(*parts: object) -> str:
    return " ".join(str(part) for part in parts if str(part))


def _device(row: DeviceRow) -> DeviceLine:
    report = row.report
    return (
        row.device_id,
        row.state,
        row.release_version,
        int(report.get("frames_inspected", 0)),
        int(report.get("frames_dropped", 0)),
        int(report.get("outbox_waiting", 0)),
        str(report.get("problem", "")),
    )
