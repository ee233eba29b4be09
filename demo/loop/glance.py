"""Look at the whole loop once: what the database and the run's events in the bucket say right now.

What is shown while the demo runs and what the story waits for are both read from here; nothing is
counted in the demo's own memory, so a demo started again sees the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from demo.loop.labeller import Uploaded
from fleet_contracts.judging import GateReport
from fleet_contracts.releases import DeviceReport
from flows.context import Context
from flows.database.schema import (
    CandidateRow,
    ChampionRow,
    ClassListRow,
    DeviceRow,
    LabelRow,
    LeaseRow,
    RolloutRow,
    RunRow,
    SampleRow,
    SightingRow,
    TriggerRow,
)


@dataclass(frozen=True, slots=True)
class RunGlance:
    """Hold the newest run of the task."""

    run_id: str = ""
    state: str = ""
    attempts: int = 0
    reason: str = ""
    snapshot_id: str = ""


@dataclass(frozen=True, slots=True)
class CandidateGlance:
    """Hold the newest candidate and what the gate said of it."""

    candidate_id: str
    model_id: str
    state: str
    release_version: int | None
    gate: dict[str, object]


@dataclass(frozen=True, slots=True)
class LeaseGlance:
    """Hold one machine that was rented, and why it ended, "" while it did not."""

    lease_id: str
    what: str
    end: str


@dataclass(frozen=True, slots=True)
class Glance:
    """Hold one look at everything."""

    devices: dict[str, DeviceReport] = field(default_factory=dict)
    mined: int = 0
    """Samples the boxes uploaded."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Mined samples by the first rule that kept them."""
    labelled: int = 0
    """Mined samples with a verified label."""
    classes: tuple[str, ...] = ()
    trigger_new: int = 0
    trigger_asked: bool = False
    runs: int = 0
    run: RunGlance = field(default_factory=RunGlance)
    candidate: CandidateGlance | None = None
    champion_version: int = 0
    rollout_state: str = ""
    leases: tuple[LeaseGlance, ...] = ()
    """Machines the newest run rented for money, oldest first."""

    def all_serve(self, devices: tuple[str, ...], version: int) -> bool:
        """Tell whether every device says that it serves this release."""
        reports = [self.devices.get(device) for device in devices]
        return all(
            report is not None and report.state == "serving" and report.release_version == version
            for report in reports
        )

    @property
    def gate(self) -> GateReport | None:
        """Return what the gate said of the newest candidate, None before it was judged."""
        if self.candidate is None or not self.candidate.gate:
            return None
        return GateReport.model_validate(self.candidate.gate)

    def candidate_is(self, state: str) -> bool:
        """Tell whether the newest candidate is in this state."""
        return self.candidate is not None and self.candidate.state == state

    def oldest_version(self, devices: tuple[str, ...]) -> int:
        """Return the lowest release any of the devices serves, 0 when one serves none."""
        reports = [self.devices.get(device) for device in devices]
        return min((report.release_version if report else 0 for report in reports), default=0)


def look(ctx: Context, task_id: str) -> Glance:
    """Look at a task once."""
    with ctx.database.reader() as session:
        mined = session.scalars(
            select(SampleRow.reasons).where(SampleRow.task_id == task_id, SampleRow.origin == "mined")
        ).all()
        trigger = _newest(session, TriggerRow, task_id)
        champion = _newest(session, ChampionRow, task_id)
        classes = session.scalars(
            select(ClassListRow.names)
            .where(ClassListRow.task_id == task_id)
            .order_by(ClassListRow.version.desc())
            .limit(1)
        ).first()
        runs = session.scalar(select(func.count()).select_from(RunRow).where(RunRow.task_id == task_id))
        run = _run(session, task_id)
        return Glance(
            devices=_devices(session, task_id),
            mined=len(mined),
            reasons=dict(Counter(str(reasons[0]) if reasons else "unknown" for reasons in mined)),
            labelled=_labelled(session, task_id),
            classes=tuple(classes or ()),
            trigger_new=trigger.verified_new if trigger else 0,
            trigger_asked=bool(trigger and trigger.asked),
            runs=runs or 0,
            run=run,
            candidate=_candidate(session, task_id),
            champion_version=champion.release_version if champion else 0,
            rollout_state=_rollout_state(session, task_id),
            leases=_leases(session, run.run_id),
        )


def uploaded(ctx: Context, task_id: str) -> list[Uploaded]:
    """Return every sample the boxes sent with the part it shows, oldest first."""
    with ctx.database.reader() as session:
        rows = session.execute(
            select(SightingRow.sample_id, SightingRow.part_id)
            .join(
                SampleRow,
                (SampleRow.task_id == SightingRow.task_id) & (SampleRow.sample_id == SightingRow.sample_id),
            )
            .where(SightingRow.task_id == task_id, SampleRow.origin == "mined")
            .order_by(SightingRow.id)
        ).all()
    return list(dict.fromkeys(Uploaded(sample_id, part_id) for sample_id, part_id in rows))


_Numbered = TypeVar("_Numbered", TriggerRow, ChampionRow)


def _newest(session: Session, table: type[_Numbered], task_id: str) -> _Numbered | None:
    return session.scalars(
        select(table).where(table.task_id == task_id).order_by(table.id.desc()).limit(1)
    ).first()


def _devices(session: Session, task_id: str) -> dict[str, DeviceReport]:
    rows = session.scalars(select(DeviceRow).where(DeviceRow.task_id == task_id)).all()
    return {row.device_id: DeviceReport.model_validate(row.report) for row in rows}


def _labelled(session: Session, task_id: str) -> int:
    count = session.scalar(
        select(func.count(func.distinct(LabelRow.sample_id))).where(
            LabelRow.task_id == task_id, LabelRow.verified, LabelRow.imported.is_(False)
        )
    )
    return count or 0


def _run(session: Session, task_id: str) -> RunGlance:
    row = session.scalars(
        select(RunRow).where(RunRow.task_id == task_id).order_by(RunRow.started_at.desc()).limit(1)
    ).first()
    if row is None:
        return RunGlance()
    return RunGlance(row.run_id, row.state, row.attempts, row.reason, row.snapshot_id)


def _leases(session: Session, run_id: str) -> tuple[LeaseGlance, ...]:
    query = select(LeaseRow).where(LeaseRow.run_id == run_id, LeaseRow.machine != "", LeaseRow.price > 0.0)
    return tuple(
        LeaseGlance(
            row.lease_id,
            f"{row.offer['region']}, {'spot' if row.spot else 'on demand'}, ${row.price:.2f} an hour",
            row.end_reason,
        )
        for row in session.scalars(query.order_by(LeaseRow.recorded_at))
    )


def _candidate(session: Session, task_id: str) -> CandidateGlance | None:
    row = session.scalars(
        select(CandidateRow)
        .where(CandidateRow.task_id == task_id)
        .order_by(CandidateRow.collected_at.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    return CandidateGlance(row.candidate_id, row.model_id, row.state, row.release_version, dict(row.gate))


def _rollout_state(session: Session, task_id: str) -> str:
    state = session.scalars(
        select(RolloutRow.state)
        .where(RolloutRow.task_id == task_id)
        .order_by(RolloutRow.started_at.desc())
        .limit(1)
    ).first()
    return state or ""
