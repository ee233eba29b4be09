"""Be a seller of training jobs over HTTP: what the simulators of PAI-DLC and ModelArts have in common.

It is a real server on loopback that an SDK is pointed at by its endpoint. It holds the truth about its jobs,
whatever its answers say; checks every signature; keeps what it was asked, without the headers that authorise;
and has bad weather on order: `begin` a fault, `fired` tells how often it hit. Time is `clock`'s.
"""

from __future__ import annotations

import json
import socket
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from fleet_contracts import utc_now
from flows.gpus.served import Served

HIDDEN_HEADERS = frozenset({"authorization", "x-acs-security-token", "x-security-token"})
HOLD_SECONDS = 30.0
"""How long a call may hang that nobody lets go."""
GARBAGE = b"<html><body>502 Bad Gateway: the proxy could not"
"""Half of somebody else's page, told to be fine."""


@dataclass(frozen=True, slots=True)
class Request:
    """Hold one request as it came; header names in lower case."""

    method: str
    path: str
    raw_query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def query(self) -> dict[str, str]:
        """Return the query's values by name."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def document(self) -> dict[str, Any]:
        """Return the body, {} where there is none."""
        return dict(json.loads(self.body)) if self.body else {}


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one answer."""

    status: int
    document: Mapping[str, Any] | None = None


@dataclass(slots=True)
class SimulatedJob:
    """Hold one job: `state` is the seller's word for how it is."""

    job_id: str
    name: str
    state: str
    began: datetime
    until: datetime
    environment: dict[str, str] = field(repr=False)
    asked: dict[str, Any] = field(repr=False)
    """The request that made it."""
    log: list[str] = field(default_factory=list)
    stops_at: datetime | None = None
    """When an order to stop has its effect."""


class Silence(Exception):
    """Tell the server to drop the connection without an answer."""


class SellerSimulator(Served, ABC):
    """Run the server while it is entered as a context.

    Args:
        key: the name and the secret of the access key it takes.
        clock: the seller's time.
    """

    lag = timedelta(minutes=2)
    """How late the list is under the fault `lag`."""
    stops_in = timedelta(0)
    """How long a job goes on that was told to stop."""
    live: frozenset[str]
    """The seller's words for jobs whose program runs or waits."""
    kept: frozenset[str] = frozenset()
    """Those for jobs that run no more and still cost."""
    stopping: str
    stopped: str

    def __init__(self, key: tuple[str, str], clock: Callable[[], datetime] = utc_now) -> None:
        self.key, self.clock = key, clock
        self.jobs: dict[str, SimulatedJob] = {}
        self.seen: list[Request] = []
        self._lock = threading.RLock()
        self._fault = ""
        self._fired: Counter[str] = Counter()
        self._calmed = threading.Event()
        super().__init__(_handler_of(self))

    def begin(self, fault: str) -> None:
        """Begin a fault; one at a time."""
        with self._lock:
            self._fault = fault
            self._fired[fault] = 0
            self._calmed.clear()

    def calm(self) -> None:
        """End the fault."""
        with self._lock:
            self._fault = ""
            self._calmed.set()

    def fired(self, fault: str) -> int:
        """Return how often a fault hit since it began."""
        return self._fired[fault]

    def has(self, fault: str) -> bool:
        """Tell whether a fault is on, and count that it hit."""
        if self._fault == fault:
            self._fired[fault] += 1
            return True
        return False

    def change(self, job_id: str, state: str) -> None:
        """Have a job be in a state from now on."""
        with self._lock:
            self.jobs[job_id].state = state

    def write(self, job_id: str, line: str) -> None:
        """Have a job's program write a line."""
        with self._lock:
            self.jobs[job_id].log.append(line)

    def now_all(self) -> tuple[SimulatedJob, ...]:
        """Return every job as it is now, those past their time ended."""
        with self._lock:
            self._pass_time()
            return tuple(replace(job) for job in self.jobs.values())

    def listed(self) -> list[SimulatedJob]:
        """Return the jobs the list shows already, oldest first."""
        if not self.has("lag"):
            return sorted(self.jobs.values(), key=lambda job: job.began)
        shown = [job for job in self.jobs.values() if job.began + self.lag <= self.clock()]
        return sorted(shown, key=lambda job: job.began)

    def hold(self) -> None:
        """Keep a connection open without an answer while the fault `hang` is on.

        Raises:
            Silence: it was, and there is none any more.
        """
        with self._lock:
            if not self.has("hang"):
                return
        self._calmed.wait(HOLD_SECONDS)
        raise Silence

    def serve(self, request: Request) -> Reply | bytes:
        """Answer one request; bytes are sent as they are, as a page.

        Raises:
            Silence: there is no answer.
        """
        with self._lock:
            self._pass_time()
            shown = {key: value for key, value in request.headers.items() if key not in HIDDEN_HEADERS}
            self.seen.append(
                Request(request.method, request.path, request.raw_query, shown, request.body)
            )  # fmt: skip
            if self.has("silence"):
                raise Silence
            if self.has("garbage"):
                return GARBAGE
            if self.has("unavailable"):
                return self.unavailable()
            if not self.is_signed(request) or self.has("wrong-token"):
                return self.key_refused(request)
            if self.has("rate-limit"):
                return self.throttled()
            reply = self.answer(request)
            if self.creates(request) and reply.status < 300 and self.has("lost-answer"):
                self._fault = ""
                raise Silence
            return reply

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """Do what is asked by whoever holds the key."""

    @abstractmethod
    def creates(self, request: Request) -> bool:
        """Tell whether a request makes a job."""

    @abstractmethod
    def is_signed(self, request: Request) -> bool:
        """Tell whether a request is signed with the key."""

    @abstractmethod
    def key_refused(self, request: Request) -> Reply:
        """Return what is answered to a wrong key or signature."""

    @abstractmethod
    def throttled(self) -> Reply:
        """Return what is answered to too many calls."""

    @abstractmethod
    def unavailable(self) -> Reply:
        """Return what is answered while the seller has a bad day."""

    def stop(self, job: SimulatedJob) -> None:
        """Have a job end as one that was told to."""
        job.state, job.stops_at = self.stopping, self.clock() + self.stops_in

    def costs(self, job: SimulatedJob) -> bool:
        """Tell whether a job is billed for now."""
        return job.state in self.live | self.kept | {self.stopping}

    def _pass_time(self) -> None:
        now = self.clock()
        for job in self.jobs.values():
            told_to = job.state == self.stopping and job.stops_at is not None and now >= job.stops_at
            if told_to or (job.state in self.live and now >= job.until):
                job.state = self.stopped


def _handler_of(simulator: SellerSimulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30
        # Head and body leave together; apart, each answer would wait for the other side's 40 ms.
        wbufsize = -1
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            parts = urlsplit(self.path)
            request = Request(
                self.command, parts.path, parts.query,
                {key.lower(): value for key, value in self.headers.items()}, self.rfile.read(length),
            )  # fmt: skip
            try:
                simulator.hold()
                reply = simulator.serve(request)
            except Silence:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            if isinstance(reply, bytes):
                self._send(200, "text/html", reply)
            else:
                content = b"" if reply.document is None else json.dumps(reply.document).encode()
                self._send(reply.status, "application/json", content)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - http.server asks for these names

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Keep quiet: what was asked is kept in `seen`."""

    return Handler
