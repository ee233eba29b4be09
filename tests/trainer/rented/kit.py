"""Rent a machine to oneself: a store over real HTTP, and the command a seller's machine is started with."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from fleet_contracts.base import encode, utc_now
from fleet_contracts.renting import CLAIM, LEASE, POWER_OFF, UNTIL, WORK
from fleet_contracts.training import GpuOffer, TrainPlan
from tests.helpers import ROOT
from tests.trainer.store import RunStore

T4 = GpuOffer(
    provider="cloud-a", offer_id="t4-1", gpu="T4", gpu_count=1, gpu_memory_mib=16_384, on_demand_price=0.5,
    priced_at=utc_now(),
)  # fmt: skip


class HttpStore(RunStore):
    """Be the bucket of one run over HTTP.

    Attributes:
        ahead: how far its clock is ahead of this machine's.
        statuses: by name, what the next answers are instead of the object.
        stalls: names whose answers stop behind their headers.
        seen: called with verb and name before each answer; the asker waits as long as it runs.
        asked: how often each verb and name was asked for; ranges count apart, as "RANGE name".
    """

    def __init__(self, weights: bytes = b"weights", **more: object) -> None:
        self.ahead = timedelta(0)
        self.statuses: dict[str, list[int]] = {}
        self.stalls: set[str] = set()
        self.seen: Callable[[str, str], None] = lambda _verb, _name: None
        self.asked: Counter[str] = Counter()
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"
        super().__init__(weights, **more)  # type: ignore[arg-type]

    @property
    def claim(self) -> str:
        """Return the one secret a machine is started with."""
        return self.url("ticket.json")

    def url(self, name: str) -> str:
        """Return an object's presigned URL."""
        return f"{self.base}/{name}?X-Amz-Signature=5ecre7of{self.server.server_address[1]}"

    def replan(self, **changes: object) -> TrainPlan:
        """Write the plan again with other values."""
        self.plan = self.plan.model_copy(update=changes)
        self.put("plan.json", encode(self.plan))
        return self.plan

    def clock(self) -> datetime:
        """Return what its clock shows."""
        return utc_now() + self.ahead


@contextmanager
def running(store: HttpStore) -> Iterator[HttpStore]:
    """Serve a store; answers that hang are let go at the end."""
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.released.set()
        store.server.shutdown()
        store.server.server_close()


class Rented:
    """Be a machine that was rented: its disk, and the processes started on it."""

    def __init__(self, store: HttpStore, disk: Path, until: datetime, command: tuple[str, ...] = ()) -> None:
        self.disk = disk
        self.off = disk / "off"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            CLAIM: store.claim,
            UNTIL: until.isoformat(),
            LEASE: "lease-0123456789abcdef",
            POWER_OFF: f"echo off >> {self.off}",
            WORK: str(disk / "work"),
        }
        self._command = command or ("-m", "trainer", "rented")
        self._output = disk / "console.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start what the seller's machine starts."""
        self.disk.mkdir(parents=True, exist_ok=True)
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=self.disk, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        return self.process

    def run(self, seconds: float = 120.0) -> int:
        """Start it and wait for its end."""
        return self.start().wait(seconds)

    @property
    def console(self) -> str:
        """Return what the seller would show of its output."""
        return self._output.read_text()

    @property
    def times_off(self) -> int:
        """Return how often it was switched off."""
        return self.off.read_text().count("off") if self.off.exists() else 0

    def family(self) -> list[psutil.Process]:
        """Return its first process and every descendant."""
        assert self.process is not None
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def end(self) -> None:
        """Take whatever still runs away."""
        if self.process is not None and self.process.poll() is None:
            for one in self.family():
                one.kill()
            self.process.wait(10)


class _Handler(BaseHTTPRequestHandler):
    """Answer for a store, which a class of its own names."""

    store: HttpStore
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        store, ranged = self.store, "Range" in self.headers
        name = self._name("RANGE" if ranged else "GET")
        status, content = self._told(name), store.get(name)
        if status or content is None:
            self._answer(status or 404, b"")
            return
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        self._answer(206 if ranged else 200, part, stalls=name in store.stalls)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        name = self._name("PUT")
        status = self._told(name)
        if not status:
            self.store.put(name, content)
        self._answer(status or 200, b"")

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.store.clock(), usegmt=True)

    def log_message(self, *_: object) -> None:
        return

    def _name(self, verb: str) -> str:
        name = self.path.partition("?")[0].removeprefix("/")
        self.store.asked[f"{verb} {name}"] += 1
        self.store.seen(verb, name)
        return name

    def _told(self, name: str) -> int:
        waiting = self.store.statuses.get(name, [])
        return waiting.pop(0) if waiting else 0

    def _answer(self, status: int, content: bytes, *, stalls: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if stalls:
            self.wfile.flush()
            self.store.released.wait(120)
        self.wfile.write(content)
