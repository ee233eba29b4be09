"""Tell the time that is left by a clock nobody can set, compared once with the store's."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trainer.backend_job import write_whole


def ticks() -> float:
    """Return seconds since this machine booted, those in which it slept included; the same in every process.

    A rented machine's calendar may be wrong by years, and a person may set it; this one runs evenly.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class ClockNote:
    """Say what the store's clock showed when ours showed `ticks`; `own` where the store told no time."""

    at: datetime
    ticks: float
    own: bool = False

    def seconds_left(self, until: datetime, now: float) -> float:
        """Return the seconds left until a moment; `now` is in `ticks`."""
        return (until - self.at).total_seconds() - (now - self.ticks)


def write_note(file: Path, note: ClockNote) -> None:
    """Leave a note for the guard."""
    write_whole(file, json.dumps({"at": note.at.isoformat(), "ticks": note.ticks, "own": note.own}).encode())


def read_note(file: Path) -> ClockNote | None:
    """Return the note, None where there is none yet."""
    try:
        told = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    return ClockNote(datetime.fromisoformat(told["at"]), float(told["ticks"]), bool(told["own"]))
