"""Ask Prefect's server how a flow run is, and tell it what the reaper did: two small calls over HTTP.

The reaper has to live where Prefect's own package is too much to load, and money rests on nothing in here:
whatever does not answer changes nothing.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from dataclasses import dataclass
from typing import Any

import urllib3

from fleet_contracts import utc_now
from flows.errors import FlowsError

_TIMEOUT = urllib3.Timeout(connect=3.0, read=10.0)
_SHOWN = 200


class PrefectAway(FlowsError):
    """Tell that Prefect's server does not answer; the same call may work later."""

    remedy = "Nothing was changed; start the server, or correct prefect.api_url."


@dataclass(frozen=True, slots=True)
class FlowState:
    """Say how a flow run is: Prefect's type (CANCELLED, CRASHED, ...) and the message with it."""

    kind: str
    message: str = ""


class PrefectApi:
    """Speak to the server at an API URL; a key or a password is taken from Prefect's own variables."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    def state_of(self, flow_run: str) -> FlowState | None:
        """Return the state of a flow run, None when the server knows no such run.

        Raises:
            PrefectAway: no answer, or none that can be read.
        """
        status, content = self._call("GET", f"/flow_runs/{flow_run}")
        if status == 404:
            return None
        state = content.get("state") if isinstance(content, dict) else None
        if status != 200 or not isinstance(state, dict):
            raise self._away(f"status {status}: {str(content)[:_SHOWN]}", f"/flow_runs/{flow_run}")
        return FlowState(str(state.get("type", "")), str(state.get("message") or ""))

    def emit(self, event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        """Send one event.

        Raises:
            PrefectAway: the server did not take it.
        """
        content = {
            "id": str(uuid.uuid4()), "event": event, "occurred": utc_now().isoformat(),
            "resource": resource, "payload": payload,
        }  # fmt: skip
        status, answer = self._call("POST", "/events", [content])
        if status >= 300:
            raise self._away(f"status {status}: {str(answer)[:_SHOWN]}", "/events")

    def _call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", **_authorization()}
        try:
            answer = self._pool.request(
                method, self._url + path, body=None if body is None else json.dumps(body), headers=headers
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(f"{type(error).__name__}: {error}", path) from error
        try:
            return answer.status, json.loads(answer.data) if answer.data else None
        except ValueError:
            return answer.status, answer.data.decode(errors="replace")

    def _away(self, got: str, path: str) -> PrefectAway:
        return PrefectAway(expected="an answer of Prefect's server", got=got, where=self._url + path)


def _authorization() -> dict[str, str]:
    key, pair = os.environ.get("PREFECT_API_KEY", ""), os.environ.get("PREFECT_API_AUTH_STRING", "")
    if key:
        return {"Authorization": f"Bearer {key}"}
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()} if pair else {}
