"""Keep the simulated cloud's books on disk, so that flow, reaper and command line see one cloud.

<place>/lock                    held while a machine is ordered
<place>/<machine>/order.json    what was ordered, at which price, until when; written before it starts
<place>/<machine>/host.json     the process that is its host, written by itself
<place>/<machine>/booted.json   when its system was up
<place>/<machine>/end.json      when and why it ended; the first reason stands
<place>/<machine>/console.log   what it wrote; a seller keeps that
<place>/<machine>/disk/         its disk; gone with the machine
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fleet_contracts import utc_now
from flows.files import write_file
from flows.gpus import sessions

TAKEN_AWAY = "taken away"
DEADLINE = "its deadline passed"
TERMINATED = "terminated by its tenant"
HOST_FAILED = "its host failed"
NEVER_CAME_UP = "it never came up"
COMES_UP_WITHIN = timedelta(seconds=60)
"""A machine that was ordered and has no host after that never gets one: whoever ordered it died."""


class Order(BaseModel):
    """Hold what was ordered; price in dollars an hour, paid from the order on."""

    model_config = ConfigDict(frozen=True)

    name: str
    region: str
    spot: bool
    price: float
    ordered_at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Instance:
    """Hold all that is known of a machine."""

    order: Order
    booted_at: datetime | None = None
    ended_at: datetime | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """Return what it is called: the tenant's tag."""
        return self.order.name

    @property
    def region(self) -> str:
        """Return where it runs."""
        return self.order.region

    @property
    def runs(self) -> bool:
        """Tell whether it runs, and costs."""
        return self.ended_at is None

    def bill(self, now: datetime) -> float:
        """Return dollars until now, by the second."""
        lived = ((self.ended_at or now) - self.order.ordered_at).total_seconds()
        return self.order.price * max(lived, 0.0) / 3600.0


@dataclass(frozen=True, slots=True)
class Cloud:
    """Be the books of one cloud in `place`."""

    place: Path

    @contextmanager
    def ordering(self) -> Iterator[None]:
        """Hold the cloud while a machine is ordered: two orders of one name must not both start one."""
        self.place.mkdir(parents=True, exist_ok=True)
        with (self.place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def folder(self, name: str) -> Path:
        """Return where a machine's files lie."""
        return self.place / name

    def disk(self, name: str) -> Path:
        """Return a machine's disk."""
        return self.folder(name) / "disk"

    def console(self, name: str) -> Path:
        """Return what a machine wrote."""
        return self.folder(name) / "console.log"

    def keep(self, order: Order) -> None:
        """Write an order down."""
        write_file(self.folder(order.name) / "order.json", order.model_dump_json().encode())

    def instances(self) -> tuple[Instance, ...]:
        """Return every machine there ever was, oldest first."""
        names = (path.parent.name for path in self.place.glob("*/order.json"))
        found = (one for name in names if (one := self.find(name)) is not None)
        return tuple(sorted(found, key=lambda one: (one.order.ordered_at, one.name)))

    def find(self, name: str) -> Instance | None:
        """Return a machine as it is now; one whose host is gone has ended."""
        folder = self.folder(name)
        try:
            order = Order.model_validate_json((folder / "order.json").read_bytes())
        except FileNotFoundError:
            return None
        # The host before the end: one that ends in between has written its end by then.
        host = sessions.read(folder / "host.json")
        end = _read(folder / "end.json")
        if end is None and not sessions.is_alive(host):
            end = self._without_host(order, host)
        booted = _read(folder / "booted.json")
        return Instance(
            order,
            datetime.fromisoformat(booted["at"]) if booted else None,
            datetime.fromisoformat(end["at"]) if end else None,
            end["why"] if end else "",
        )

    def end_of(self, name: str) -> str:
        """Return why a machine ended, "" where nobody said that it did."""
        return (_read(self.folder(name) / "end.json") or {"why": ""})["why"]

    def note_booted(self, name: str) -> None:
        """Note that a machine's system is up."""
        write_file(self.folder(name) / "booted.json", json.dumps({"at": utc_now().isoformat()}).encode())

    def note_end(self, name: str, why: str) -> None:
        """Note that a machine on which nothing runs has ended, clear its disk; the first reason stands."""
        folder = self.folder(name)
        draft = folder / f".end.{uuid.uuid4().hex[:12]}"
        write_file(draft, json.dumps({"at": utc_now().isoformat(), "why": why}).encode())
        try:
            os.link(draft, folder / "end.json")
        except FileExistsError:
            pass  # what ended it first is the reason
        finally:
            draft.unlink()
        if self.disk(name).exists():
            shutil.rmtree(self.disk(name), ignore_errors=True)

    def pull_plug(self, name: str, why: str) -> None:
        """End everything that runs on a machine at once, its host too, and note why."""
        host = sessions.read(self.folder(name) / "host.json")
        if host is not None:
            sessions.end_all(host, 0.0)
        self.note_end(name, why)

    def _without_host(self, order: Order, host: sessions.Session | None) -> dict[str, str] | None:
        """Return how a machine without a living host ended, None while it may still get one."""
        if host is None and utc_now() - order.ordered_at < COMES_UP_WITHIN:
            return None
        end = _read(self.folder(order.name) / "end.json")
        if end is None:
            self.pull_plug(order.name, HOST_FAILED if host is not None else NEVER_CAME_UP)
            end = _read(self.folder(order.name) / "end.json")
        return end


def _read(path: Path) -> dict[str, str] | None:
    try:
        content: dict[str, str] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return content
