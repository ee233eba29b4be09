"""Ask a service whether it serves: one small question over loopback; no answer within two seconds is a no.

Each probe is a function without arguments, so the supervisor knows nothing of protocols.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

Probe = Callable[[], bool]
TIMEOUT = 2.0  # seconds


def answers_http(port: int, path: str = "/", *, below: int = 500) -> Probe:
    """Return a probe that holds when a GET is answered with a status below `below`."""
    return lambda: 0 < _request(port, "GET", path)[0] < below


def answers_mqtt(port: int, username: str, password: Callable[[], str]) -> Probe:
    """Return a probe that holds when the broker accepts this user (a port alone proves nothing)."""
    return lambda: _mqtt_connects(port, username, password())


def has_online_worker(port: int, pool: str, worker: str) -> Probe:
    """Return a probe that holds when the Prefect server counts the worker as online."""

    def probe() -> bool:
        status, content = _request(port, "POST", f"/api/work_pools/{pool}/workers/filter", {})
        workers = content if status == 200 and isinstance(content, list) else []
        return any(one.get("name") == worker and one.get("status") == "ONLINE" for one in workers)

    return probe


def always() -> bool:
    """Hold for services that cannot be asked: running is all that can be known."""
    return True


def _request(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        text = response.read(1 << 20)
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, None
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()


def _mqtt_connects(port: int, username: str, password: str) -> bool:
    """Speak the CONNECT of MQTT 3.1.1 and read the four bytes of its answer; the last is 0 when accepted."""
    fields = b"".join(_text(part) for part in ("whetstone-probe", username, password))
    variable = _text("MQTT") + bytes([4, 0b1100_0010]) + struct.pack(">H", 10)
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as line:
            line.sendall(bytes([0x10, len(variable) + len(fields)]) + variable + fields)
            answer = line.recv(4)
            line.sendall(b"\xe0\x00")
    except OSError:
        return False
    return len(answer) == 4 and answer[0] == 0x20 and answer[3] == 0


def _text(value: str) -> bytes:
    content = value.encode()
    return struct.pack(">H", len(content)) + content
