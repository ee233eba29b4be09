r"""Say what an answer of SkyPilot's API server means; pure.

Nearly every call answers at once with `null` and the id of a request in the header `X-Skypilot-Request-ID`;
what became of it is asked for with that id. A request that failed comes back as HTTP 500 whose detail holds
the type and text of an exception. The pickled copies of both beside them are never opened.

    >>> plain("\x1b[33mCluster 'a' does not exist.\x1b[0m")
    "Cluster 'a' does not exist."
    >>> plain("no answer of https://store.example/t?sig=5ecret")
    'no answer of https://store.example/t?...'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.gpus.errors import GpuError, LaunchRefused, ProviderAway, TokenRefused

REQUEST_ID = "X-Skypilot-Request-ID"
API_VERSION, VERSION = "62", "0.14.1"
"""What we speak; servers from 0.11.0 on take it, older and some newer ones refuse by `version_mismatch`."""
ACTIVE = frozenset({"PENDING", "WAITING", "RUNNING"})
"""Statuses of a request that has not ended."""
NO_CLUSTER = "ClusterDoesNotExist"
_PASSING = frozenset({
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "TimeoutError", "RequestInterruptedError",
    "RequestCancelled", "ServerTemporarilyUnavailableError", "ConcurrentWorkerExhaustedError",
    "ClusterStatusFetchingError", "ExecutionRetryableError",
})  # fmt: skip
_FORBIDDEN = frozenset(
    {"PermissionDeniedError", "CloudUserIdentityError", "ClusterOwnerIdentityMismatchError"}
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_QUERY = re.compile(r"\?[^\s'\"<>]+")
_MARKUP = re.compile(r"^.*</?sky-payload.*$", re.MULTILINE)
_LONGEST = 400


class RequestFailed(GpuError):
    """Tell that the server carried a request out and it failed; `kind` is the exception's type there."""

    def __init__(self, kind: str, said: str, where: str) -> None:
        super().__init__(expected="a request that succeeds", got=f"{kind}: {said}", where=where)
        self.kind = kind


class StillWorking(Exception):
    """Tell that a request has not ended in the time we wait."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold one HTTP answer; `where` names server and path."""

    status: int
    body: bytes
    where: str


def read(answer: Answer) -> Any:
    """Return the document of an answer.

    Raises:
        TokenRefused: the server wants another token.
        RequestFailed: the request failed there, or was not taken.
        ProviderAway: it cannot answer now, or what answers is not SkyPilot.
    """
    document = _document(answer.body)
    detail = document.get("detail") if isinstance(document, dict) else None
    if answer.status == 500 and isinstance(detail, dict) and "error" in detail:
        raise failure_of(detail, answer.where)
    if answer.status in (401, 403) or 300 <= answer.status < 400:
        raise TokenRefused(
            expected="a token the server takes", got=_said(answer.status, detail), where=answer.where,
            now="Make a service account token in its dashboard and put it where `token` says.",
        )  # fmt: skip
    if answer.status == 400 and isinstance(document, dict) and document.get("error") == "version_mismatch":
        raise ProviderAway(
            expected=f"a SkyPilot server that speaks API version {API_VERSION}",
            got=plain(str(document.get("message", ""))), where=answer.where,
            now=f"Let it run SkyPilot {VERSION}.",
        )  # fmt: skip
    if answer.status in (400, 413, 422):
        raise RequestFailed("NotTaken", _said(answer.status, detail), answer.where)
    if answer.status != 200 or (document is None and answer.body.strip() != b"null"):
        raise ProviderAway(
            expected="an answer of SkyPilot's", got=_said(answer.status, detail), where=answer.where
        )
    return document


def result_of(payload: Any, where: str) -> Any:
    """Return what a request returned, by the payload of `/api/get`.

    Raises:
        RequestFailed: it failed or was cancelled.
        ProviderAway: the payload is none.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("return_value"), str):
        raise ProviderAway(expected="a request's payload", got=type(payload).__name__, where=where)
    if payload.get("status") != "SUCCEEDED":
        raise failure_of(payload, where)
    try:
        return json.loads(payload["return_value"])
    except ValueError:
        raise ProviderAway(expected="a request's value", got="no JSON", where=where) from None


def failure_of(payload: Mapping[str, Any], where: str) -> RequestFailed:
    """Return the failure that a request's payload tells."""
    error = _document(str(payload.get("error") or "").encode())
    if not isinstance(error, dict):
        return RequestFailed(str(payload.get("status") or "unknown"), "no reason was given", where)
    return RequestFailed(str(error.get("type")), plain(str(error.get("message"))), where)


def as_away(failure: RequestFailed) -> GpuError:
    """Return what a failed request is to a caller who only asked or ended something."""
    if failure.kind in _FORBIDDEN:
        return _forbidden(failure)
    return ProviderAway(expected=failure.expected, got=failure.got, where=failure.where)


def as_refusal(failure: RequestFailed) -> GpuError:
    """Return what a failed launch is to a caller: a refusal, unless the server itself was cut off."""
    if failure.kind in _FORBIDDEN:
        return _forbidden(failure)
    if failure.kind in _PASSING:
        return as_away(failure)
    return LaunchRefused(
        expected="a machine", got=failure.got, where=failure.where, now="Another offer is tried."
    )


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a text without colours, progress marks and the queries of URLs, which may be secret."""
    bare = _QUERY.sub("?...", _MARKUP.sub("", _ANSI.sub("", text))).strip()
    return bare if len(bare) <= longest else f"{bare[:longest]}..."


def _forbidden(failure: RequestFailed) -> TokenRefused:
    return TokenRefused(
        expected="a token with the right to do this", got=failure.got, where=failure.where,
        now="Give its service account the role that may launch and end clusters.",
    )  # fmt: skip


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _said(status: int, detail: Any) -> str:
    """Return a detail in words; what a validation repeats of our own body is left out, it holds the claim."""
    if isinstance(detail, list):
        detail = "; ".join(
            f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg')}"
            for one in detail
            if isinstance(one, dict)
        )
    return plain(f"HTTP {status} {detail or ''}")
