"""Ask boxes for frames, and tell what became of it.

Asking only records the command. Ingest sends it to the box, again and again until an answer ends it (law 1),
for a week after its time too, so nothing is lost when broker or box are away.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from fleet_contracts import utc_now
from fleet_contracts.messages import CaptureCommand
from flows.classes import current_class_list
from flows.context import Context
from flows.database.schema import CaptureRow, DeviceRow
from flows.errors import CaptureRefused

WAITING = "waiting"
OPEN_OUTCOMES = (WAITING, "accepted")
"""Outcomes after which a command is still sent, seldom once its time is over."""


@dataclass(frozen=True, slots=True)
class CaptureWish:
    """Say which frames are wanted; see `CaptureCommand` for the fields.

    `hours` is how long boxes may take; `campaign` is what the commands to several boxes have in common.
    """

    devices: tuple[str, ...]
    frames: int
    class_name: str = ""
    low: float = 0.0
    high: float = 1.0
    before: int = 0
    hours: float = 8.0
    campaign: str = ""


@dataclass(frozen=True, slots=True)
class CaptureView:
    """Hold how one command stands."""

    command: CaptureCommand
    outcome: str
    detail: str
    frames_kept: int
    asked_at: datetime
    answered_at: datetime | None

    @property
    def words(self) -> str:
        """Say in a word how it stands; a command whose time passed unanswered did so."""
        if self.outcome in OPEN_OUTCOMES and self.command.expires_at <= utc_now():
            return "no answer" if self.outcome == WAITING else "expired"
        return {"accepted": "running"}.get(self.outcome, self.outcome)


def ask_for_frames(ctx: Context, task_id: str, wish: CaptureWish, *, by: str) -> tuple[CaptureCommand, ...]:
    """Record one command for each device and return them; ingest sends them within seconds.

    Raises:
        UnknownTask: no such task.
        CaptureRefused: a device nobody ever heard of, a class the task does not have, or a value that no
            command may carry.
    """
    _require_known(ctx, task_id, wish)
    now = utc_now()
    commands = tuple(_command(task_id, device, wish, by, now) for device in wish.devices)
    with ctx.database.session() as session:
        session.add_all(
            CaptureRow(
                command_id=command.command_id,
                task_id=task_id,
                device_id=command.device_id,
                command=command.model_dump(mode="json"),
                outcome=WAITING,
                detail="",
                frames_kept=0,
                asked_at=now,
                expires_at=command.expires_at,
                answered_at=None,
            )
            for command in commands
        )
    return commands


def captures_of(ctx: Context, task_id: str, *, limit: int = 50) -> list[CaptureView]:
    """Return the newest commands of a task, newest first."""
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(CaptureRow)
            .where(CaptureRow.task_id == task_id)
            .order_by(CaptureRow.asked_at.desc(), CaptureRow.command_id)
            .limit(limit)
        ).all()
    return [view_of(row) for row in rows]


def view_of(row: CaptureRow) -> CaptureView:
    """Return a row as a value."""
    return CaptureView(
        CaptureCommand.model_validate(row.command),
        row.outcome,
        row.detail,
        row.frames_kept,
        row.asked_at,
        row.answered_at,
    )


def _require_known(ctx: Context, task_id: str, wish: CaptureWish) -> None:
    settings = ctx.settings.task(task_id)
    with ctx.database.reader() as session:
        heard = session.scalars(select(DeviceRow.device_id).where(DeviceRow.task_id == task_id)).all()
    known = {*settings.devices, *heard}
    strange = [device for device in wish.devices if device not in known]
    if strange or not wish.devices:
        raise CaptureRefused(
            expected=f"devices of task {task_id}: {', '.join(sorted(known)) or 'none yet'}",
            got=", ".join(strange) or "none",
            where="--device",
            now="Name a device that has reported, or list it in the task's settings.",
        )
    names = current_class_list(ctx, task_id).names if wish.class_name else ()
    if wish.class_name and wish.class_name not in names:
        raise CaptureRefused(
            expected=f"a class of task {task_id}: {', '.join(names)}", got=wish.class_name, where="--class"
        )


def _command(task_id: str, device: str, wish: CaptureWish, by: str, now: datetime) -> CaptureCommand:
    try:
        return CaptureCommand(
            task_id=task_id,
            device_id=device,
            command_id=uuid.uuid4().hex,
            frames=wish.frames,
            expires_at=now + timedelta(hours=wish.hours),
            asked_by=by,
            class_name=wish.class_name,
            low=wish.low,
            high=wish.high,
            before=wish.before,
            campaign=wish.campaign,
        )
    except (ValueError, OverflowError) as error:
        raise CaptureRefused(
            expected="values a capture command may carry",
            got=" ".join(str(error).split())[:500],
            where=f"capture for {device}",
        ) from error
