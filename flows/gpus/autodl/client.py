"""Speak to AutoDL over HTTP: one call, one answer, time limits, and the token in one header alone.

Only GET is tried again by itself. Nothing that creates or ends is: AutoDL has no idempotency key, and a
launch whose answer was lost is looked for in the list.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

import urllib3

from flows.gpus.autodl.answers import Answer, read_answer
from flows.gpus.autodl.errors import CallRefused, NoSuchRecord
from flows.gpus.errors import GpuError, ProviderAway, TokenRefused
from flows.gpus.tokens import KeptToken, hidden, require_header

log = logging.getLogger("whetstone.gpus")

Method = Literal["GET", "POST", "PUT", "DELETE"]
PAGE = 100
MOST_PAGES = 100
"""More of an account is not read: a list without an end must not hold the reaper up."""
TOKEN_PAGE = (
    "console > account > settings > developer token (https://www.autodl.com/console/center/settings/token)"  # noqa: S105 - a page
)
_AGAIN = urllib3.Retry(total=2, backoff_factor=0.2, allowed_methods=["GET"], redirect=0, status=0)


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold how long a call may take, in seconds."""

    connect: float = 5.0
    read: float = 30.0


class AutodlClient:
    """Ask AutoDL.

    Args:
        name: the provider's name, for errors.
        url: where the API is.
        token: read again for each call, so that a renewed one is taken in the middle of a run.
        limits: how long a call may take.
    """

    def __init__(self, name: str, url: str, token: KeptToken, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self._name = name
        self._url = url.rstrip("/")
        self.token = token
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=limits.connect, read=limits.read), retries=False
        )

    def __repr__(self) -> str:
        return f"AutodlClient({self._name!r}, {self._url!r}, {self.token.place!r})"

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """Ask with GET; its arguments go into the query, whatever the documentation shows.

        Raises:
            ProviderAway: no answer, none that can be read, or one that may change.
            TokenRefused: the token is not taken, or the account lacks a right.
            CallRefused, NoSuchRecord: AutoDL says no.
        """
        return self._ask("GET", f"{path}?{urlencode(query)}", None)

    def send(self, method: Method, path: str, body: Mapping[str, Any]) -> Any:
        """Ask with POST, PUT or DELETE and a JSON body; never twice. Raises as `get` does."""
        return self._ask(method, path, json.dumps(body).encode())

    def pages(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return every row of a list, page after page. Raises as `get` does."""
        seen = 0
        for index in range(1, MOST_PAGES + 1):
            page = self.send("POST", path, {**body, "page_index": index, "page_size": PAGE})
            try:
                rows = [dict(row) for row in page["list"] or ()]
                seen += len(rows)
                is_last = _is_last(page, index, seen)
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise self._away(path, f"a list that cannot be read: {type(error).__name__}") from error
            yield from rows
            if is_last or not rows:
                return
        log.warning("gpus.autodl_list_cut provider=%s path=%s pages=%s", self._name, path, MOST_PAGES)

    def _ask(self, method: Method, path: str, body: bytes | None) -> Any:
        # Checked here: what no header takes is quoted, whole, by the error of whoever sends it.
        token = require_header(self.token(), self.token.place)
        headers = {"Authorization": token, "Content-Type": "application/json", "Accept": "application/json"}
        try:
            reply = self._pool.request(
                method, self._url + path, body=body, headers=headers, redirect=False,
                retries=_AGAIN if method == "GET" else False,
            )  # fmt: skip
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._away(path, type(error).__name__) from error
        answer = read_answer(int(reply.status), bytes(reply.data))
        if answer.kind == "good":
            return answer.data
        raise self._error(path, answer, token)

    def _error(self, path: str, answer: Answer, token: str) -> GpuError:
        # A server may put what it was sent into its message; ours goes into logs and records.
        said, where = hidden(answer.said, token), self._where(path)
        make = _ERRORS.get(answer.kind)
        if make is not None:
            return make(said, where, self.token.place)
        return self._away(path, said)

    def _away(self, path: str, got: str) -> ProviderAway:
        return ProviderAway(
            expected="an answer of AutoDL's", got=got, where=self._where(path),
            now="The call is made again; look at the network and at AutoDL's notices if it lasts.",
        )  # fmt: skip

    def _where(self, path: str) -> str:
        return f"{self._name}: {self._url}{path.partition('?')[0]}"


def named(answer: Any, where: str) -> str:
    """Return the name of something that was made.

    Raises:
        ProviderAway: the answer holds none; what was made is found in the list.
    """
    if isinstance(answer, str) and answer:
        return answer
    raise ProviderAway(expected="the name of what was made", got=type(answer).__name__, where=where)


def whole(value: Any) -> int:
    """Return a number of an answer, 0 for what is none.

    >>> whole("2"), whole(None), whole("many"), whole(float("inf"))
    (2, 0, 0, 0)
    """
    try:
        return int(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _is_last(page: Mapping[str, Any], index: int, seen: int) -> bool:
    """Tell whether a list ends with a page; a server may give smaller pages than were asked for."""
    if page.get("max_page") is not None:
        return index >= int(page["max_page"])
    if page.get("result_total") is not None:
        return seen >= int(page["result_total"])
    # Neither is told: after a full page there may be another one.
    return seen < index * PAGE


def _token_error(said: str, where: str, place: str) -> GpuError:
    return TokenRefused(
        expected="a token that AutoDL takes", got=said, where=f"{place}, at {where}",
        now=f"Make a new one at {TOKEN_PAGE} and put it there without 'Bearer'; no restart is needed.",
    )  # fmt: skip


def _right_error(said: str, where: str, place: str) -> GpuError:
    return TokenRefused(
        expected="an account with the right to this", got=said, where=f"{place}, at {where}",
        now="Complete the certification of the account in AutoDL's console: a person's real name for Pro, "
        "an enterprise for elastic deployments; or use the token of an account that has it.",
    )  # fmt: skip


def _missing_error(said: str, where: str, place: str) -> GpuError:
    del place
    return NoSuchRecord(expected="a record of AutoDL's", got=said, where=where)


def _refused_error(said: str, where: str, place: str) -> GpuError:
    del place
    return CallRefused(expected="Success", got=said, where=where, now="Read AutoDL's message.")


_ERRORS: dict[str, Callable[[str, str, str], GpuError]] = {
    "token": _token_error,
    "right": _right_error,
    "missing": _missing_error,
    "refused": _refused_error,
}
