"""Speak SkyPilot's API 0.14.1 over HTTP for simulated clusters, for trying the adapter and for tests.

Start it with `python -m flows.gpus.skypilot.simulator --port 46580`. Paths, bodies, headers, statuses and
texts are those the real server answered with; answers to faults are those of its source, and of proxies.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flows.gpus.skypilot.answers import API_VERSION, REQUEST_ID, VERSION
from flows.gpus.skypilot.simulated_clusters import Failed, SimulatedClusters, SimulatedRequest

LEAST_VERSION = 24
HIDDEN = frozenset({"envs", "secrets"})
"""Parts of a task the server's pages do not show."""
_NEEDED = {
    "/launch": ("task", "cluster_name"), "/down": ("cluster_name",), "/logs": ("cluster_name", "job_id"),
    "/job_status": ("cluster_name", "job_ids"), "/status": (), "/list_accelerators": (), "/api/cancel": (),
}  # fmt: skip
_FAULTS: dict[str, tuple[int, str]] = {
    "rate-limit": (429, '{"detail": "Too Many Requests"}'),
    "unavailable": (503, '{"detail": "Server is shutting down, please try again later."}'),
    "garbage": (200, "<html><title>Sign in</title></html>"),
    "wrong-token": (401, '{"detail": "Service account token revoked or rotated"}'),
}


class Simulator:
    """Be the server; `token` is the one it takes, "" for one that asks for none.

    `fault` is one of `rate-limit`, `unavailable`, `garbage`, `wrong-token`, `silence` and `lost-answer`, the
    last for the next launch alone; `fired` counts how often it hit.
    """

    def __init__(self, token: str = "", port: int = 0) -> None:
        self.token = token
        self.machines = SimulatedClusters()
        self.fault = ""
        self.fired = 0
        self.seen: list[str] = []
        """Every request as the server's own log would show it."""
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def serve(self) -> None:
        """Serve until closed."""
        self._http.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """End serving, and who still waits for an answer."""
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


@contextlib.contextmanager
def running(token: str = "") -> Iterator[Simulator]:
    """Serve in the background."""
    simulator = Simulator(token)
    thread = threading.Thread(target=simulator.serve, daemon=True)
    thread.start()
    try:
        yield simulator
    finally:
        simulator.close()
        thread.join()


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        owner = simulator

    return Handler


class _Handler(BaseHTTPRequestHandler):
    owner: Simulator
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        self._note(None)
        if self._stopped(url.path):
            return
        if url.path == "/api/health":
            self._health()
        elif url.path == "/enabled_clouds":
            self._begin(SimulatedRequest("sky.enabled_clouds", lambda: self.owner.machines.enabled))
        elif url.path == "/api/get":
            self._get(query.get("request_id", [""])[0])
        elif url.path == "/api/status":
            self._requests(query)
        elif url.path == "/api/stream":
            self._text("")
        else:
            self._send(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        path = urlsplit(self.path).path
        self._note(body)
        if self._stopped(path):
            return
        lacking = [name for name in _NEEDED.get(path, ()) if name not in body]
        if path not in _NEEDED:
            self._send(404, {"detail": "Not Found"})
        elif lacking:
            missing = {"type": "missing", "msg": "Field required", "input": body}
            self._send(422, {"detail": [{**missing, "loc": ["body", name]} for name in lacking]})
        else:
            with self.owner.lock:
                getattr(self, "_" + path.replace("/api/", "").lstrip("/"))(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        del format, args

    # --- what is asked for ---------------------------------------------------------------------------------

    def _launch(self, body: dict[str, Any]) -> None:
        request = self.owner.machines.launch(body)
        if self.owner.fault == "lost-answer":
            self.owner.fault = ""
            self.owner.fired += 1
            self._drop()
        else:
            self._answer(request)

    def _down(self, body: dict[str, Any]) -> None:
        name = body["cluster_name"]
        self._begin(SimulatedRequest("sky.down", lambda: self.owner.machines.down(name), name))

    def _status(self, body: dict[str, Any]) -> None:
        names = body.get("cluster_names")

        def work() -> list[dict[str, Any]]:
            known = self.owner.machines.clusters.values()
            return [one.record() for one in known if names is None or one.name in names]

        self._begin(SimulatedRequest("sky.status", work))

    def _job_status(self, body: dict[str, Any]) -> None:
        def work() -> dict[str, str | None]:
            found = self.owner.machines.clusters.get(body["cluster_name"])
            if found is None:
                raise Failed("ClusterDoesNotExist", f"Cluster {body['cluster_name']!r} does not exist.")
            return {str(found.jobs or None): found.job or None}

        self._begin(SimulatedRequest("sky.job_status", work, body["cluster_name"]))

    def _list_accelerators(self, body: dict[str, Any]) -> None:
        wanted = body.get("clouds")
        asked = {one.lower() for one in ([wanted] if isinstance(wanted, str) else wanted or [])}

        def work() -> dict[str, Any]:
            kept = {
                gpu: [row for row in rows if not asked or row[0].lower() in asked]
                for gpu, rows in self.owner.machines.catalog.items()
            }
            return {gpu: rows for gpu, rows in kept.items() if rows}

        self._begin(SimulatedRequest("sky.list_accelerators", work))

    def _cancel(self, body: dict[str, Any]) -> None:
        ids = body.get("request_ids") or []
        self._begin(SimulatedRequest("sky.api_cancel", lambda: self.owner.machines.cancel(ids)))

    def _logs(self, body: dict[str, Any]) -> None:
        found = self.owner.machines.clusters.get(body["cluster_name"])
        lines = found.output[-(body.get("tail") or 0) :] if found else []
        self._text("".join(f"\x1b[36m(trainer, pid=41)\x1b[0m {line}\n" for line in lines))

    # --- how it is answered --------------------------------------------------------------------------------

    def _health(self) -> None:
        needs = bool(self.owner.token) and "Authorization" not in self.headers
        self._send(200, {
            "status": "needs_auth" if needs else "healthy", "api_version": API_VERSION, "version": VERSION,
            "user": {"id": "sa-1", "name": "whetstone"} if self.owner.token and not needs else None,
        })  # fmt: skip

    def _begin(self, request: SimulatedRequest) -> None:
        with self.owner.lock:
            self._answer(self.owner.machines.add(request))

    def _answer(self, request: SimulatedRequest) -> None:
        self._send(200, None, {REQUEST_ID: request.request_id})

    def _get(self, request_id: str) -> None:
        """Answer when the request has ended, as the real server does."""
        while not self.owner.closing.is_set():
            with self.owner.lock:
                self.owner.machines.settle()
                found = next(
                    (one for one in self.owner.machines.requests if one.request_id == request_id), None
                )
                payload = found.payload() if found else {}
            if not found:
                return self._send(404, {"detail": f"Request {request_id!r} not found"})
            if payload["status"] == "FAILED":
                return self._send(500, {"detail": payload})
            if payload["status"] != "RUNNING":
                return self._send(200, payload)
            time.sleep(0.01)
        return self._send(503, {"detail": "the server is going down"})

    def _requests(self, query: dict[str, list[str]]) -> None:
        with self.owner.lock:
            self.owner.machines.settle()
            found = [one.payload() for one in reversed(self.owner.machines.requests)]
        if "all_status" not in query:
            found = [one for one in found if one["status"] == "RUNNING"]
        if "cluster_name" in query:
            found = [one for one in found if one["cluster_name"] in query["cluster_name"]]
        self._send(200, found)

    def _note(self, body: dict[str, Any] | None) -> None:
        shown = dict(body or {})
        if "task" in shown:
            shown["task"] = {
                key: value for key, value in json.loads(shown["task"]).items() if key not in HIDDEN
            }
        self.owner.seen.append(f"{self.command} {self.path} {json.dumps(shown)}")

    def _stopped(self, path: str) -> bool:
        """Answer at once where a fault, a version or a token is in the way."""
        owner = self.owner
        if owner.fault == "silence" or owner.fault in _FAULTS:
            owner.fired += 1
            if owner.fault == "silence":
                self._drop()
            else:
                status, text = _FAULTS[owner.fault]
                self._write(
                    status, text.encode(), "text/html" if owner.fault == "garbage" else "application/json", {}
                )
            return True
        if int(self.headers.get("X-SkyPilot-API-Version", LEAST_VERSION)) < LEAST_VERSION:
            self._send(
                400, {"error": "version_mismatch", "message": "Your SkyPilot client version is too old"}
            )
            return True
        given = self.headers.get("Authorization", "")
        if owner.token and given != f"Bearer {owner.token}" and (given or path != "/api/health"):
            self._send(401, {"detail": "Invalid or expired service account token"})
            return True
        return False

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _text(self, text: str) -> None:
        self._write(200, text.encode(), "text/plain; charset=utf-8", {})

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(document).encode(), "application/json", headers or {})

    def _write(self, status: int, body: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        known = {"X-SkyPilot-API-Version": API_VERSION, "X-SkyPilot-Version": VERSION}
        for name, value in {**known, **headers, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Simulate a SkyPilot API server.")
    parser.add_argument("--port", type=int, default=46580)
    parser.add_argument("--boot-seconds", type=float, default=5.0, help="how long a launch takes")
    arguments = parser.parse_args()
    simulator = Simulator(port=arguments.port)
    simulator.machines.boot_seconds = arguments.boot_seconds
    print(f"SkyPilot's API, simulated: {simulator.url}")  # noqa: T201 - a program's output
    with contextlib.suppress(KeyboardInterrupt):
        simulator.serve()


if __name__ == "__main__":
    main()
