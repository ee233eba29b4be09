"""Keep the newest report of every device."""

from __future__ import annotations

from sqlalchemy import select

from fleet_contracts import utc_now
from fleet_contracts.releases import DeviceReport
from flows.context import Context
from flows.database.schema import DeviceRow


def take_report(ctx: Context, report: DeviceReport) -> None:
    """Record a report unless a newer one is known.

    A last will was written when its device connected, so an offline report carries an old time: it changes
    the state alone and keeps what the device last said of itself.
    """
    with ctx.database.session() as session:
        row = session.get(DeviceRow, (report.task_id, report.device_id))
        if row is not None and report.state == "offline":
            row.state = "offline"
            return
        if row is not None and row.reported_at > report.reported_at:
            return
        session.merge(
            DeviceRow(
                task_id=report.task_id,
                device_id=report.device_id,
                state=report.state,
                release_version=report.release_version,
                report=report.model_dump(mode="json"),
                reported_at=report.reported_at,
                seen_at=utc_now(),
            )
        )


def reports_of(ctx: Context, task_id: str) -> dict[str, DeviceReport]:
    """Return the newest report of every device of a task; the state is what the broker last said of it."""
    with ctx.database.reader() as session:
        rows = session.scalars(select(DeviceRow).where(DeviceRow.task_id == task_id)).all()
    reports: dict[str, DeviceReport] = {}
    for row in rows:
        plain = DeviceReport.model_validate(row.report)
        reports[row.device_id] = plain.model_copy(update={"state": row.state})
    return reports
