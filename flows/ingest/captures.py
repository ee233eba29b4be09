"""Send capture commands to boxes until an answer ends them, and take the answers in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from sqlalchemy import select

from fleet_contracts import encode, topics, utc_now
from fleet_contracts.messages import CaptureCommand, CommandAnswer
from flows.captures import OPEN_OUTCOMES
from flows.context import Context
from flows.database.schema import CaptureRow
from flows.ingest.link import CloudLink

log = logging.getLogger("whetstone.flows")

AGAIN_SECONDS = 30.0
"""How often a command without a final answer is sent again; the box answers each with how it stands."""
OVER_SECONDS = 600.0
OWED = timedelta(days=7)
"""How often, and for how long, a command whose time is over is sent.

A box that was offline when it ended still owes its last word; it begins nothing that has expired.
"""


class CaptureDuty:
    """Send every open command at once, and again from time to time."""

    def __init__(self, link: CloudLink, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._clock = clock
        self._sent: dict[str, float] = {}

    def __call__(self, ctx: Context) -> None:
        """Do one round."""
        now = self._clock()
        open_commands = {command.command_id: command for command in _open_commands(ctx)}
        self._sent = {name: at for name, at in self._sent.items() if name in open_commands}
        if not self._link.is_connected():
            return
        for name, command in open_commands.items():
            pause = AGAIN_SECONDS if command.expires_at > utc_now() else OVER_SECONDS
            if now - self._sent.get(name, now - pause) >= pause:
                self._link.publish(
                    topics.down(command.task_id, command.device_id, "capture"), encode(command)
                )
                self._sent[name] = now


def take_answer(ctx: Context, answer: CommandAnswer) -> Literal["accepted", "ended", "late", "unknown"]:
    """Record what a box says of a command, unless one that ended it is known; say what that was."""
    with ctx.database.session() as session:
        row = session.get(CaptureRow, answer.command_id)
        if row is None or (row.task_id, row.device_id) != (answer.task_id, answer.device_id):
            log.warning(
                "capture.unknown device=%s command=%r why=%s",
                answer.device_id, answer.command_id, answer.detail,
            )  # fmt: skip
            return "unknown"
        if row.outcome not in OPEN_OUTCOMES:
            return "late"
        row.outcome = answer.outcome
        row.detail = answer.detail
        row.frames_kept = max(row.frames_kept, answer.frames_kept)
        row.answered_at = answer.answered_at
    return "accepted" if answer.outcome in OPEN_OUTCOMES else "ended"


def _open_commands(ctx: Context) -> list[CaptureCommand]:
    with ctx.database.reader() as session:
        rows = session.scalars(
            select(CaptureRow)
            .where(
                CaptureRow.outcome.in_(OPEN_OUTCOMES),
                CaptureRow.expires_at > utc_now() - OWED,
                CaptureRow.task_id.in_(ctx.settings.tasks),
            )
            .order_by(CaptureRow.asked_at)
        ).all()
    return [CaptureCommand.model_validate(row.command) for row in rows]
