"""See what a machine has: its driver, its disk and memory, and the line to the bucket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psutil

from fleet_contracts.base import utc_now
from fleet_contracts.renting import SIMULATED_DRIVER
from fleet_contracts.training import TicketObject
from trainer.errors import TrainerError
from trainer.fitness.facts import CardSeen, DriverSeen, LineSeen
from trainer.memory.cgroup import MemoryGroup
from trainer.wire import Wire, WireDown

DRIVER_SECONDS = 20.0
"""How long a driver may take to answer; healthy ones take below two."""
LINE_SECONDS = 3.0
LINE_BYTES = 32 << 20
_PROBE = "trainer.fitness.probe"
_WARMING_BYTES = 256 << 10
"""What comes before a line is up to speed is not counted, where more comes than this."""


def see_driver(environment: Mapping[str, str], seconds: float = DRIVER_SECONDS) -> DriverSeen:
    """Return what driver and CUDA tell; one that does not answer in time is told so."""
    described = environment.get(SIMULATED_DRIVER)
    command = [sys.executable, "-m", _PROBE, *([described] if described else [])]
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=True,
            env={**environment, "PYTHONPATH": path},
        )  # fmt: skip
        return driver_of(json.loads(asked.stdout))
    except subprocess.TimeoutExpired:
        return DriverSeen(error=f"no answer within {seconds:.0f} s; the card may have fallen off its bus")
    except subprocess.CalledProcessError as error:
        return DriverSeen(error=f"asking it ended with {error.returncode}: {error.stderr.strip()[-300:]}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return DriverSeen(error=f"its answer could not be read: {error}")


def driver_of(told: Mapping[str, Any]) -> DriverSeen:
    """Read what the probe printed."""
    cards = tuple(
        CardSeen(one["name"], int(one["total_bytes"]), int(one["free_bytes"]), _pair(one["capability"]))
        for one in told.get("cards", ())
    )
    return DriverSeen(
        error=told.get("error", ""), version=told.get("version", ""), cuda=_pair(told.get("cuda")),
        cards=cards, cuda_error=told.get("cuda_error", ""), usable=told.get("usable"),
    )  # fmt: skip


def disk_free(folder: Path) -> int:
    """Return the free bytes under a folder; its nearest parent counts where it is not there yet."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return shutil.disk_usage(there).free


def disk_taken(folder: Path) -> int:
    """Return the bytes of all files under a folder, a file of several names once."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            seen = os.lstat(os.path.join(at, name))  # noqa: PTH118 - a hundred thousand names
            found[seen.st_ino] = seen.st_size
    return sum(found.values())


def memory() -> int:
    """Return the bytes of memory this process may take: the machine's, or its group's limit."""
    group = MemoryGroup.of(os.getpid())
    limit = group.limit() if group else None
    return min(filter(None, (int(psutil.virtual_memory().total), limit)))


def see_line(wire: Wire, wanted: TicketObject, seconds: float = LINE_SECONDS) -> LineSeen:
    """Read the beginning of an object: how fast it came, and how far our clock is from the store's."""
    length = min(wanted.size_bytes, LINE_BYTES)
    asked_at = utc_now()
    try:
        reply = wire.get(wanted.url, length=length)
        ahead = clock_ahead(reply.date, asked_at, utc_now())
        if reply.status not in (200, 206):
            return LineSeen(clock_ahead=ahead, error=f"HTTP {reply.status}")
        return LineSeen(_rate(reply.chunks, length, seconds), ahead)
    except (WireDown, TrainerError) as error:
        return LineSeen(error=f"{type(error).__name__}: {error}")


def clock_ahead(date: str, asked_at: datetime, answered_at: datetime) -> float | None:
    """Return how many seconds our clock is ahead of a server's Date header, None without a readable one.

    >>> at = datetime(2026, 11, 21, 12, 0, 10, tzinfo=timezone.utc)
    >>> clock_ahead("Sat, 21 Nov 2026 12:00:00 GMT", at, at)
    9.5
    """
    server = date_in(date)
    if server is None:
        return None
    ours = asked_at + (answered_at - asked_at) / 2
    return (ours - server).total_seconds() - 0.5  # the header leaves out half a second on average


def date_in(header: str) -> datetime | None:
    """Return the moment a Date header names, None for anything else."""
    try:
        found = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _rate(chunks: Any, length: int, seconds: float) -> float | None:
    """Return bytes a second; the first ones only where there are no others."""
    began = time.monotonic()
    came, warm, warm_at = 0, 0, began
    for chunk in chunks:
        came += len(chunk)
        now = time.monotonic()
        if not warm and came >= _WARMING_BYTES:
            warm, warm_at = came, now
        if came >= length or now - began > seconds:
            break
    ended = time.monotonic()
    if came > 2 * warm:
        return (came - warm) / max(ended - warm_at, 1e-6)
    return came / max(ended - began, 1e-6) if came else None


def _pair(told: Any) -> tuple[int, int] | None:
    return (int(told[0]), int(told[1])) if told else None
