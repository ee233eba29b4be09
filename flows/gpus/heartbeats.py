"""Keep what every reaper found in the database: a launch may rest on enough of them being alive.

A beat says that a provider was asked for all our machines and answered; a reaper that merely runs proves
nothing. `endings` holds the rule.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from flows.database import Database
from flows.database.schema import ReaperRow
from flows.gpus.become import boot_id
from flows.gpus.endings import Reaper
from flows.gpus.reaper import Round

KEPT_FOR = timedelta(days=1)
"""How long a reaper that beats no more is remembered, for people."""
_MOST_TROUBLE = 2000


@dataclass(frozen=True, slots=True)
class Me:
    """Name the machine a reaper runs on: its host name, and this boot of its kernel."""

    host: str = field(default_factory=socket.gethostname)
    boot: str = field(default_factory=boot_id)


@dataclass(frozen=True, slots=True)
class Beat:
    """Say what one reaper found at one provider; `trouble` is "" when all went well."""

    host: str
    boot: str
    provider: str
    beat_at: datetime
    seen_at: datetime | None
    trouble: str = ""


def beat(database: Database, me: Me, found: Round, now: datetime) -> None:
    """Note that a provider was asked, and whether it answered; those long silent are forgotten."""
    with database.session() as session:
        session.execute(delete(ReaperRow).where(ReaperRow.beat_at < now - KEPT_FOR))
        row = session.get(ReaperRow, (me.host, me.boot, found.provider))
        if row is None:
            row = ReaperRow(host=me.host, boot=me.boot, provider=found.provider, seen_at=None)
            session.add(row)
        row.beat_at, row.trouble = now, found.trouble[:_MOST_TROUBLE]
        if found.answered:
            row.seen_at = now


def beats(database: Database) -> tuple[Beat, ...]:
    """Return what every reaper found last, in a stable order."""
    query = select(ReaperRow).order_by(ReaperRow.host, ReaperRow.boot, ReaperRow.provider)
    with database.reader() as session:
        return tuple(
            Beat(row.host, row.boot, row.provider, row.beat_at, row.seen_at, row.trouble)
            for row in session.scalars(query)
        )


def reapers(database: Database) -> tuple[Reaper, ...]:
    """Return every reaper with when each provider last answered it."""
    found: dict[tuple[str, str], dict[str, datetime]] = {}
    for one in beats(database):
        seen = found.setdefault((one.host, one.boot), {})
        if one.seen_at is not None:
            seen[one.provider] = one.seen_at
    return tuple(Reaper(host, boot, seen) for (host, boot), seen in found.items())
