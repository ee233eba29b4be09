"""Speak to SkyPilot's API server over HTTP.

What only asks is asked a second time when the connection breaks; what has an effect never is: a launch whose
answer was lost is found in the server's list.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from flows.gpus.errors import ProviderAway, TokenRefused
from flows.gpus.skypilot.answers import (
    API_VERSION,
    REQUEST_ID,
    VERSION,
    Answer,
    RequestFailed,
    StillWorking,
    as_away,
    read,
    result_of,
)
from flows.gpus.tokens import KeptToken, require_header

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Say how long the server's requests are waited for, in seconds.

    `quick` is how long a launch may take to be refused within the call that makes it: what lacks an account,
    region or type is refused in under two; `asking` is for what only asks, `ending` for ending a cluster.
    """

    quick: float = 8.0
    asking: float = READ_SECONDS
    ending: float = 120.0


class SkypilotServer:
    """Make requests of one server and wait for what became of them.

    Args:
        url: the server's address.
        token: the service account's token, or `user:password`; None where the server asks for none.
    """

    def __init__(self, url: str, token: KeptToken | None) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._pool = urllib3.PoolManager(retries=False)

    def ask(self, path: str, body: dict[str, Any] | None = None, seconds: float = READ_SECONDS) -> Any:
        """Make a request and return its value; a body makes it a POST.

        Raises:
            ProviderAway: the server does not answer, or not in time.
            TokenRefused: it wants another token.
            RequestFailed: it carried the request out, and that failed.
        """
        request_id = self.order(path, body)
        try:
            return self.result(request_id, seconds)
        except StillWorking:
            raise ProviderAway(
                expected=f"an end within {seconds:.0f} s", got="none yet", where=f"{self.url}{path}",
                now="The server goes on; what came of it shows at the next call.",
            ) from None  # fmt: skip

    def order(self, path: str, body: dict[str, Any] | None = None) -> str:
        """Make a request and return its id."""
        response = self._send("GET" if body is None else "POST", path, body)
        read(self._answer(response, path))
        request_id = response.headers.get(REQUEST_ID, "")
        if not request_id:
            raise ProviderAway(
                expected=f"an answer with {REQUEST_ID}", got="one without", where=f"{self.url}{path}"
            )
        return request_id

    def result(self, request_id: str, seconds: float) -> Any:
        """Return the value of a request.

        Raises:
            StillWorking: it goes on after these seconds.
            RequestFailed: it failed.
        """
        path = "/api/get"
        response = self._send("GET", f"{path}?{urlencode({'request_id': request_id})}", seconds=seconds)
        return result_of(read(self._answer(response, path)), f"{self.url}{path}")

    def look(self, path: str, **query: str | list[str]) -> Any:
        """Return the document of a page that answers at once.

        Raises:
            ProviderAway: the server does not answer, or does not take the question.
            TokenRefused: it wants another token.
        """
        response = self._send("GET", f"{path}?{urlencode(query, doseq=True)}" if query else path)
        try:
            return read(self._answer(response, path))
        except RequestFailed as failure:
            raise as_away(failure) from None

    def text(self, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None) -> str:
        """Return a page of text, "" where there is none."""
        target = f"{path}?{urlencode(query)}" if query else path
        response = self._send("GET" if body is None else "POST", target, body)
        if response.status in (200, 404) and "text/html" not in response.headers.get("Content-Type", ""):
            return response.data.decode("utf-8", "replace") if response.status == 200 else ""
        read(self._answer(response, path))
        raise ProviderAway(expected="text", got="a page", where=f"{self.url}{path}")

    def _send(
        self, method: str, target: str, body: dict[str, Any] | None = None, seconds: float = READ_SECONDS
    ) -> urllib3.BaseHTTPResponse:
        tries, began = (2 if method == "GET" else 1), time.monotonic()
        while True:
            tries -= 1
            try:
                return self._pool.request(
                    method,
                    f"{self.url}{target}",
                    body=None if body is None else json.dumps(body).encode(),
                    headers=self._headers(),
                    timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds),
                    redirect=False,
                )
            except ReadTimeoutError:
                if target.startswith("/api/get?"):
                    raise StillWorking from None
                self._give_up("no answer in time", target)
            except HTTPError as error:
                if tries == 0 or time.monotonic() - began > CONNECT_SECONDS:
                    self._give_up(type(error).__name__, target)

    def _give_up(self, got: str, target: str) -> None:
        where = f"{self.url}{target.partition('?')[0]}"
        # Without the cause: it would carry the request, and its body holds the claim.
        raise ProviderAway(expected="an answer of SkyPilot's server", got=got, where=where) from None

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "X-SkyPilot-API-Version": API_VERSION,
            "X-SkyPilot-Version": VERSION,
        }
        if self.token is not None:
            headers["Authorization"] = _authorization(self.token)
        return headers

    def _answer(self, response: urllib3.BaseHTTPResponse, path: str) -> Answer:
        where = f"{self.url}{path}" + (f" with {self.token.place}" if self.token else "")
        return Answer(response.status, response.data, where)


def require_bare(url: str) -> None:
    """Refuse an address that holds a password: addresses stand in logs and errors.

    Raises:
        TokenRefused: it does.
    """
    if "@" in url:
        raise TokenRefused(
            expected="an address without a user", got="one with", where="url of a skypilot provider",
            now="Put user:password where `token` says, and the address alone into `url`.",
        )  # fmt: skip


def _authorization(token: KeptToken) -> str:
    value = require_header(token(), token.place)
    if not value.startswith("sky_") and ":" in value:
        return "Basic " + base64.b64encode(value.encode()).decode()
    return f"Bearer {value}"
