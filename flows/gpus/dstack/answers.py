"""Tell what an answer of dstack's server means; pure.

    >>> read_answer(403, b'{"detail":{"msg":"Invalid token","code":null}}').kind
    'token'
    >>> read_answer(400, b'{"detail":[{"msg":"Run not found","code":"resource_not_exists"}]}').kind
    'missing'

What it refuses comes with HTTP 400 and a list, what our token may not do with 403, a body it cannot read
with 422. Everything else is the weather, or a proxy in between.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["good", "token", "project", "missing", "refused", "away"]
LATER = "Try again later"
"""How dstack ends a message when the thing is locked by its own workers just now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what the server answered; `said` is its own words, without what we had sent."""

    kind: Kind
    said: str = ""
    data: Any = None


def read_answer(status: int, body: bytes) -> Answer:
    """Return what an answer means."""
    try:
        read = json.loads(body)
    except ValueError:
        return Answer("away", f"HTTP {status} and no JSON")
    if status == 200:
        return Answer("good", data=read)
    detail = read.get("detail") if isinstance(read, dict) else None
    said = f"HTTP {status}: {_words(detail)}"
    if status in (401, 403):
        return Answer("token", said)
    if status == 404:
        return Answer("project", said)
    if status == 400 and LATER not in said:
        return Answer("missing" if _code(detail) == "resource_not_exists" else "refused", said)
    return Answer("refused" if status in (405, 422) else "away", said)


def _code(detail: object) -> str:
    first = detail[0] if isinstance(detail, list) and detail else detail
    return str(first.get("code") or "") if isinstance(first, dict) else ""


def _words(detail: object) -> str:
    """Return the messages alone: a body that cannot be read is repeated in `input`, secrets and all."""
    if isinstance(detail, str):
        return detail
    entries = detail if isinstance(detail, list) else [detail]
    return "; ".join(_entry(one) for one in entries if isinstance(one, dict)) or "no message"


def _entry(entry: dict[str, Any]) -> str:
    where = entry.get("loc")
    place = ".".join(map(str, where)) if isinstance(where, list) else ""
    return f"{place}: {entry.get('msg')}" if place else str(entry.get("msg"))
