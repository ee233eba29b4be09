"""Keep on file what was changed about a training: a restarted child neither forgets nor repeats it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from trainer.backend_job import write_whole
from trainer.watch.cure import LoaderSettings, Treatment

_log = logging.getLogger("whetstone.trainer")
WATCH_FILE = "watch.json"


@dataclass(frozen=True, slots=True)
class Notes:
    """Hold what is on file: settings the job came with, settings in force since the cures, the cures."""

    base: LoaderSettings
    now: LoaderSettings
    history: tuple[Treatment, ...] = ()


def write_notes(folder: Path, notes: Notes) -> None:
    """Write the file, whole or not at all."""
    write_whole(folder / WATCH_FILE, json.dumps(asdict(notes)).encode())


def read_notes(folder: Path, base: LoaderSettings) -> Notes:
    """Read the file of an earlier start, or begin a new one.

    A job that comes with other settings than before has gone down a rung: its cures are not taken up again,
    and none of their levers is pulled a second time, since one of them may have cost the memory.
    """
    path = folder / WATCH_FILE
    try:
        content = json.loads(path.read_bytes())
        kept = Notes(_settings(content["base"]), _settings(content["now"]), _history(content["history"]))
    except FileNotFoundError:
        return Notes(base, base)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("watch.notes_unreadable file=%s error=%s", path, error)
        return Notes(base, base)
    if kept.base == base:
        return kept
    return Notes(base, base, tuple(replace(one, rate_after=0.0) for one in kept.history))


def _settings(row: dict[str, object]) -> LoaderSettings:
    return LoaderSettings(**row)  # type: ignore[arg-type]  # written by us; a wrong name raises TypeError


def _history(rows: Sequence[dict[str, object]]) -> tuple[Treatment, ...]:
    made = []
    for row in rows:
        before, after = row["before"], row["after"]
        if not isinstance(before, dict) or not isinstance(after, dict):
            raise TypeError("a treatment without its settings")
        made.append(Treatment(**{**row, "before": _settings(before), "after": _settings(after)}))  # type: ignore[arg-type]  # likewise
    return tuple(made)
