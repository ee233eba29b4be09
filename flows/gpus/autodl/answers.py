"""Say what an answer of AutoDL means; pure.

There is no published table of codes, and failures come with HTTP 200: everything but `Success` is one. Codes
that were seen are told apart by name, the others by words of their message, and what is left is a refusal,
whose text is kept for a person to read.

    >>> read_answer(200, b'{"code":"Success","msg":"","data":"running"}')
    Answer(kind='good', data='running', said='')
    >>> read_answer(200, b'{"code":"RecordNotFoundError","msg":"","data":null}').kind
    'missing'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["good", "missing", "token", "right", "away", "refused"]

SUCCESS = "Success"
MISSING = frozenset({"RecordNotFoundError"})
RIGHTS = frozenset({"TORealName"})
"""The account lacks a certification; no parameter and no balance helps."""
NO_RIGHT = "无当前资源访问权限"
"""What `BadRequest` says to an account without the certification of an enterprise."""
_TOKEN_CODES = ("authorize", "unauthorized", "token", "authentication", "signature")
_TOKEN_WORDS = ("授权失败", "鉴权", "登录", "token")
_BUSY_WORDS = ("频繁", "限流", "too many requests", "rate limit")
_AWAY = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what was answered: `data` of a good one, `said` of any other."""

    kind: Kind
    data: Any = None
    said: str = ""


def read_answer(status: int, content: bytes) -> Answer:
    """Return what an HTTP status and a body mean."""
    if status in (401, 403):
        return Answer("token", said=f"HTTP {status}")
    if status in _AWAY:
        return Answer("away", said=f"HTTP {status}")
    try:
        envelope = json.loads(content)
        code, said = str(envelope["code"]), str(envelope.get("msg") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Answer("away", said=f"HTTP {status} and no envelope of AutoDL's")
    if code == SUCCESS and status == 200:
        return Answer("good", envelope.get("data"))
    return Answer(_kind_of(code, said), said=f"{code}: {said}"[:_MOST_TEXT])


def _kind_of(code: str, said: str) -> Kind:
    if code in MISSING:
        return "missing"
    if code in RIGHTS or NO_RIGHT in said:
        return "right"
    if any(word in said.lower() for word in _BUSY_WORDS):
        return "away"
    if any(word in code.lower() for word in _TOKEN_CODES) or any(
        word in said.lower() for word in _TOKEN_WORDS
    ):
        return "token"
    return "refused"
