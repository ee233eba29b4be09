"""Speak to a dstack server over HTTP: one call, one answer, time limits, and the token in one header alone.

Every call of dstack's is a POST, so none is ever made twice by itself: the next round asks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3

from flows.gpus.dstack.answers import Answer, read_answer
from flows.gpus.errors import GpuError, ProviderAway, TokenRefused
from flows.gpus.tokens import KeptToken, hidden, require_header


class CallRefused(ProviderAway):
    """Tell that the server said no; where nobody makes more of it, the call is made again later."""


class NoSuchThing(CallRefused):
    """Tell that the server knows no run, fleet or secret of that name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold how long a call may take, in seconds; a plan over many backends is slow."""

    connect: float = 5.0
    read: float = 60.0


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Tell an answer of another shape than dstack's as no answer: a proxy's, or another version's."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ProviderAway(
            expected="an answer as dstack gives it", got=f"another one ({type(error).__name__})", where=where,
            now="See that the URL is dstack's own, and which version its server is.",
        ) from None  # fmt: skip


class DstackClient:
    """Ask a dstack server.

    Args:
        name: the provider's name, for errors.
        url: where the server is.
        project: whose runs, fleets and secrets are ours.
        token: read again for each call, so that a renewed one is taken in the middle of a run.
    """

    def __init__(
        self, name: str, url: str, project: str, token: KeptToken, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        self._name = name
        self._url = url.rstrip("/")
        self._project = project
        self._token = token
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=limits.connect, read=limits.read), retries=False
        )

    def __repr__(self) -> str:
        return f"DstackClient({self._name!r}, {self._url!r}, {self._project!r}, {self._token.place!r})"

    def ask(self, path: str, body: Mapping[str, Any], *secrets: str) -> Any:
        """Make a call outside projects, such as `users/get_my_user`.

        Args:
            path: without `/api/`.
            body: what is sent as JSON.
            secrets: what of the body must not be in an error, should the server repeat it.

        Raises:
            ProviderAway: no answer, none that can be read, or one that may change.
            TokenRefused: the token is not taken, or may not do this in the project.
            CallRefused, NoSuchThing: the server says no.
        """
        token = require_header(self._token(), self._token.place)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        where = f"{self._url}/api/{path}"
        try:
            reply = self._pool.request(
                "POST", where, body=json.dumps(body).encode(), headers=headers, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Its text may hold what was sent; its kind says enough, and the chain is cut for the same reason.
            raise self._away(where, type(error).__name__) from None
        answer = read_answer(int(reply.status), bytes(reply.data))
        if answer.kind == "good":
            return answer.data
        raise self._error(where, Answer(answer.kind, hidden(answer.said, token, *secrets)))

    def ask_project(self, path: str, body: Mapping[str, Any], *secrets: str) -> Any:
        """Make a call within the project, such as `runs/get`. Raises as `ask` does."""
        return self.ask(f"project/{self._project}/{path}", body, *secrets)

    def _error(self, where: str, answer: Answer) -> GpuError:
        if answer.kind in ("token", "project"):
            return self._refused_token(where, answer)
        if answer.kind == "away":
            return self._away(where, answer.said)
        kind = NoSuchThing if answer.kind == "missing" else CallRefused
        return kind(
            expected="dstack to do it", got=answer.said, where=f"{self._name}: {where}",
            now="Read dstack's message; its server is 0.22.5 where this adapter was tried.",
        )  # fmt: skip

    def _refused_token(self, where: str, answer: Answer) -> TokenRefused:
        at = f"{self._token.place}, at {self._name}: {where}"
        if answer.kind == "project":
            return TokenRefused(
                expected=f"a project {self._project!r} on the server", got=answer.said, where=at,
                now="Correct the project's name in the settings, or take a token that sees it.",
            )  # fmt: skip
        return TokenRefused(
            expected="a token that dstack takes for this", got=answer.said, where=at,
            now="Take the token of a user who is manager or admin of the project (on dstack's page of the "
            "user, where it is also renewed) and put it there; no restart is needed.",
        )  # fmt: skip

    def _away(self, where: str, got: str) -> ProviderAway:
        return ProviderAway(
            expected="an answer of dstack's server", got=got, where=f"{self._name}: {where}",
            now="The call is made again; see that the server runs and can be reached from here.",
        )  # fmt: skip
