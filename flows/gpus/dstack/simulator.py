"""Be dstack's server (0.22.5) over HTTP, without a cloud behind it: paths, bodies, refusals, and bad weather.

    with DstackSimulator("a-token") as dstack:
        provider = DstackProvider("clouds", DstackSection(kind="dstack", url=dstack.url, ...), ...)

`account` is the truth, `seen` what was asked, `arm` begins a fault. Answers have the fields of the real
server that the adapter reads; the tests hold both against each other. What the real one has and this has not:
users beside the one, priorities, services, volumes, and a seller.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

from flows.gpus.dstack import shapes
from flows.gpus.dstack.shapes import ROWS, Row
from flows.gpus.dstack.simulated_account import Account, Fleet, Refusal, refused
from flows.gpus.served import Served

_HTTP_FAULTS = {"rate-limit": 429, "unavailable": 503}
_PAGE = b"<html><head><title>One moment, please</title>"
Call = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one request as a proxy in front of the server would log it."""

    path: str
    body: str
    authorization: str = field(repr=False)


class DstackSimulator(Served):
    """Be a server with one project and one user; `with` starts and stops it."""

    def __init__(self, token: str, *, project: str = "main", port: int = 0) -> None:
        self.account = Account()
        self.token, self.project = token, project
        self.rows: list[Row] = list(ROWS)
        self.availability = "available"
        self.may_keep_secrets = True
        self.seen: list[Seen] = []
        self.hits: dict[str, int] = {}
        self._fault = ""
        self._lock = threading.RLock()
        super().__init__(_handler_of(self), port)

    def arm(self, fault: str) -> None:
        """Begin a fault, by its name in the contract suite; `lost-answer` hits one `runs/apply` alone."""
        with self._lock:
            self._fault, self.hits[fault] = fault, 0

    def calm(self) -> None:
        """End every fault."""
        with self._lock:
            self._fault = ""

    def advance(self, time: timedelta) -> None:
        """Let the server's clock pass."""
        with self._lock:
            self.account.clock.ahead += time

    def look(self) -> Account:
        """Return the account after it went on by one look."""
        with self._lock:
            self.account.pass_time()
            return self.account

    def reply(self, seen: Seen) -> tuple[int, bytes] | None:
        """Return status and body of an answer, None for no answer at all."""
        with self._lock:
            self.seen.append(seen)
            if self._fault in ("silence", "garbage") or self._fault in _HTTP_FAULTS:
                return self._bad_answer()
            self.account.pass_time()
            status, answer = self._answer(seen)
            if self._fault == "lost-answer" and seen.path.endswith("/runs/apply") and status == 200:
                self._hit()
                self._fault = ""
                return None
            return status, json.dumps(answer).encode()

    def _bad_answer(self) -> tuple[int, bytes] | None:
        self._hit()
        if self._fault == "silence":
            return None
        return _HTTP_FAULTS.get(self._fault, 200), _PAGE

    def _answer(self, seen: Seen) -> tuple[int, Any]:
        try:
            self._require_token(seen.authorization)
            call, model = self._call_of(seen.path)
            body = json.loads(seen.body)
            shapes.require(model, body)
            return 200, call(body)
        except Refusal as refusal:
            return refusal.status, {"detail": refusal.detail}

    def _require_token(self, authorization: str) -> None:
        if not authorization.startswith("Bearer "):
            raise Refusal(401, "Not authenticated")
        if self._fault == "wrong-token":
            self._hit()
        elif authorization == f"Bearer {self.token}":
            return
        raise Refusal(403, {"msg": "Invalid token", "code": None})

    def _call_of(self, path: str) -> tuple[Call, str]:
        outside: dict[str, Call] = {
            "users/get_my_user": lambda _: shapes.user(self.token),
            "runs/list": self._list_runs,
        }
        name = path.removeprefix("/api/")
        if name in outside:
            return outside[name], name
        part, _, rest = name.partition("/")
        project, _, name = rest.partition("/")
        inside: dict[str, Call] = {
            "runs/get_plan": self._plan, "runs/apply": self._apply, "runs/get": self._get_run,
            "runs/stop": self._stop, "fleets/list": self._list_fleets, "fleets/get": self._get_fleet,
            "fleets/apply": self._apply_fleet, "fleets/delete": self._delete_fleets,
            "secrets/list": self._list_secrets, "secrets/create_or_update": self._keep_secret,
            "secrets/delete": self._delete_secrets, "logs/poll": self._logs,
        }  # fmt: skip
        if part != "project" or name not in inside:
            raise Refusal(405, "Method Not Allowed")
        if project != self.project:
            raise Refusal(404, {"msg": "Not found", "code": None})
        return inside[name], name

    def _plan(self, body: dict[str, Any]) -> Any:
        wanted = body["run_spec"]["configuration"]
        rows = [row for row in self.rows if _fits(row, wanted)]
        availability = self.availability
        if self._fault == "no-capacity":
            self._hit()
            availability = "no_quota"
        offers = [shapes.offer(row, availability) for row in sorted(rows, key=lambda one: one.price)]
        return shapes.plan(self.project, body["run_spec"], offers[: body.get("max_offers") or 50])

    def _apply(self, body: dict[str, Any]) -> Any:
        return shapes.run(self.account.apply(body["plan"]["run_spec"]), self.project)

    def _get_run(self, body: dict[str, Any]) -> Any:
        run = self.account.runs.get(body["run_name"])
        if run is None:
            raise refused("Run not found", "resource_not_exists")
        return shapes.run(run, self.project)

    def _list_runs(self, body: dict[str, Any]) -> Any:
        runs = sorted(self.account.runs.values(), key=lambda run: (run.submitted, run.run_id), reverse=True)
        if body.get("only_active"):
            runs = [run for run in runs if not run.is_over]
        last = body.get("prev_run_id")
        if last is not None:
            runs = runs[[run.run_id for run in runs].index(last) + 1 :]
        limit = body.get("limit", 100)
        return [shapes.run(run, self.project, jobs=body.get("include_jobs", True)) for run in runs[:limit]]

    def _stop(self, body: dict[str, Any]) -> None:
        for name in body["runs_names"]:
            run = self.account.runs.get(name)
            if run is not None:
                run.end("terminated", "aborted_by_user", "aborted_by_user")

    def _list_fleets(self, _: dict[str, Any]) -> Any:
        return [self._shown(fleet) for fleet in self.account.fleets.values()]

    def _get_fleet(self, body: dict[str, Any]) -> Any:
        fleet = self.account.fleets.get(body["name"])
        if fleet is None:
            raise refused("Resource not found", "resource_not_exists")
        return self._shown(fleet)

    def _apply_fleet(self, body: dict[str, Any]) -> Any:
        fleet = Fleet(body["plan"]["spec"], self.account.clock())
        if fleet.name in self.account.fleets:
            raise refused("Failed to update fleet: fleet is being processed currently. Try again later.")
        self.account.fleets[fleet.name] = fleet
        return self._shown(fleet)

    def _delete_fleets(self, body: dict[str, Any]) -> None:
        for name in body["names"]:
            self.account.delete_fleet(name)

    def _shown(self, fleet: Fleet) -> Any:
        return shapes.fleet(fleet, self.account.runs.get(fleet.name), self.project)

    def _list_secrets(self, _: dict[str, Any]) -> Any:
        self._require_manager()
        return [shapes.secret(name) for name in self.account.secrets]

    def _keep_secret(self, body: dict[str, Any]) -> Any:
        self._require_manager()
        self.account.secrets[body["name"]] = body["value"]
        return {**shapes.secret(body["name"]), "value": body["value"]}

    def _delete_secrets(self, body: dict[str, Any]) -> None:
        self._require_manager()
        missing = [name for name in body["secrets_names"] if name not in self.account.secrets]
        if missing:
            raise refused(f"Secrets not found: {', '.join(missing)}", "resource_not_exists")
        for name in body["secrets_names"]:
            del self.account.secrets[name]

    def _require_manager(self) -> None:
        if not self.may_keep_secrets:
            raise Refusal(403, {"msg": "Access denied", "code": None})

    def _logs(self, body: dict[str, Any]) -> Any:
        run = self.account.runs.get(body["run_name"])
        lines = run.lines if run is not None and run.job_id == body["job_submission_id"] else []
        ordered = lines[::-1] if body.get("descending") else lines
        events = [
            {
                "timestamp": self.account.clock().isoformat(), "log_source": "stdout",
                "message": base64.b64encode(f"{line}\n".encode()).decode(),
            }
            for line in ordered[: body.get("limit", 100)]
        ]  # fmt: skip
        return {"logs": events, "external_url": None, "next_token": None}

    def _hit(self) -> None:
        self.hits[self._fault] = self.hits.get(self._fault, 0) + 1


def _fits(row: Row, wanted: dict[str, Any]) -> bool:
    card = wanted["resources"]["gpu"]
    policy = wanted.get("spot_policy") or "on-demand"
    names = [name.lower() for name in card.get("name") or ()]
    return (
        row.backend in (wanted.get("backends") or [row.backend])
        and row.region in (wanted.get("regions") or [row.region])
        and row.instance in (wanted.get("instance_types") or [row.instance])
        and (not names or row.gpu.lower() in names)
        and (policy == "auto" or row.spot == (policy == "spot"))
        and (wanted.get("max_price") is None or row.price <= wanted["max_price"])
    )


def _handler_of(simulator: DstackSimulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        """Buffered: an answer in two packets waits 40 ms for the first one to be acknowledged."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            answer = simulator.reply(Seen(self.path, body, self.headers.get("Authorization", "")))
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

    return Handler
