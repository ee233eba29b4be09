"""Be AutoDL's API as an HTTP server: paths, envelopes, refusals, lateness and loss, and machines that cost.

    python -m flows.gpus.autodl.simulator --port 8900 --token anything

`machines` is the truth, `seen` what was asked, `weather` what goes wrong. Each machine does what its start
command says: it ends at WHETSTONE_UNTIL as the trainer would, and powers off where the command says so. What
AutoDL answers to a wrong token, and to too many calls, is not published: here it is `AuthorizeFailed` with
HTTP 200, and HTTP 429.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import threading
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flows.gpus.autodl.simulated_account import Call, Clock, Refusal, SimulatedMachine, Weather
from flows.gpus.autodl.simulated_elastic import ElasticCloud
from flows.gpus.autodl.simulated_pro import ProCloud
from flows.gpus.served import Served

log = logging.getLogger("whetstone.gpus.simulator")

LAUNCHES = frozenset({"/api/v1/dev/instance/pro/create", "/api/v1/dev/deployment"})
_HTTP_FAULTS = {"rate-limit": 429, "unavailable": 503}


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one request as AutoDL's own logs would."""

    method: str
    path: str
    query: str
    body: str
    authorization: str = field(repr=False)


class AutodlSimulator(Served):
    """Be AutoDL for one account; `with` starts and stops it."""

    def __init__(self, token: str, *, port: int = 0) -> None:
        self.clock = Clock()
        self.weather = Weather()
        self.pro = ProCloud(self.clock, self.weather)
        self.elastic = ElasticCloud(self.clock, self.weather)
        self.token = token
        self.assets, self.blocked = 100_000, 0
        """Thousandths of a yuan on the account, and how many of them are held back."""
        self.seen: list[Seen] = []
        self._lock = threading.RLock()
        super().__init__(_handler_of(self), port)

    @property
    def machines(self) -> list[SimulatedMachine]:
        """Return every machine of the account as it truly is."""
        with self._lock:
            return [*self.pro.machines(), *self.elastic.machines()]

    def arm(self, fault: str) -> None:
        """Begin a fault, by its name in the contract suite; `lost-answer` hits the next launch alone."""
        with self._lock:
            self.weather.lose_next_launch = fault == "lost-answer"
            self.weather.standing = "" if fault == "lost-answer" else fault

    def calm(self) -> None:
        """End every fault."""
        with self._lock:
            self.weather.standing, self.weather.lose_next_launch = "", False
            self.weather.lag = timedelta(0)

    def advance(self, time: timedelta) -> None:
        """Let the seller's clock pass."""
        with self._lock:
            self.clock.ahead += time

    def reply(self, seen: Seen) -> tuple[int, bytes] | None:
        """Return status and body of an answer, None for no answer at all."""
        with self._lock:
            self.seen.append(seen)
            fault = self.weather.standing
            if fault in ("silence", "garbage") or fault in _HTTP_FAULTS:
                self.weather.hit(fault)
                return _bad_answer(fault)
            content = self._envelope(seen)
            if self.weather.lose_next_launch and seen.method == "POST" and seen.path in LAUNCHES:
                self.weather.lose_next_launch = False
                self.weather.hit("lost-answer")
                return None
            return 200, content

    def _envelope(self, seen: Seen) -> bytes:
        code, message, data = "Success", "", None
        try:
            self._require_token(seen)
            arguments = dict(parse_qsl(seen.query)) if seen.method == "GET" else _body_of(seen)
            data = self._call_of(seen)(arguments)
        except Refusal as refusal:
            code, message = refusal.code, refusal.message
        envelope = {"code": code, "msg": message, "data": data, "request_id": uuid.uuid4().hex}
        return json.dumps(envelope, ensure_ascii=False).encode()

    def _require_token(self, seen: Seen) -> None:
        if self.weather.standing != "wrong-token" and seen.authorization == self.token:
            return
        self.weather.hit("wrong-token")
        raise Refusal("AuthorizeFailed", "授权失败")

    def _call_of(self, seen: Seen) -> Call:
        calls = {**self.pro.calls, **self.elastic.calls, ("POST", "/api/v1/dev/wallet/balance"): self._wallet}
        call = calls.get((seen.method, seen.path))
        if call is None:
            raise Refusal("BadRequest", "no such path in the simulator")
        return call

    def _wallet(self, _: object) -> dict[str, int]:
        return {"assets": self.assets, "blocked_asset": self.blocked, "accumulate": 0, "voucher_balance": 0}


def _body_of(seen: Seen) -> dict[str, Any]:
    try:
        body = json.loads(seen.body or "{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("RequestParameterIsWrong", "请求参数错误")
    return body


def _bad_answer(fault: str) -> tuple[int, bytes] | None:
    if fault == "silence":
        return None
    if fault == "garbage":
        return 200, b'{"code":"Success","msg":"","da'
    return _HTTP_FAULTS[fault], b"<html>busy</html>"


def _handler_of(simulator: AutodlSimulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1
        """One packet an answer: in two, the second waits 40 ms for the first to be acknowledged."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            parts = urlsplit(self.path)
            authorization = self.headers.get("Authorization", "")
            answer = simulator.reply(Seen(self.command, parts.path, parts.query, body, authorization))
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the base class asks for these names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
            log.debug("autodl_simulator %s", format % args)

    return Handler


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.gpus.autodl.simulator", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--token", default="simulated-token")
    chosen = parser.parse_args(arguments)
    with AutodlSimulator(chosen.token, port=chosen.port) as simulator:
        sys.stdout.write(f"AutoDL, simulated, at {simulator.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
