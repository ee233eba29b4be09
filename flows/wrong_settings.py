"""Say what is wrong with settings as a person can mend it: where, what was got, which key is near.

What stands where a secret is named, or looks like an address with a password, is never repeated: somebody may
have put the secret itself there.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import PydanticCustomError

_SECRET = ("token", "password", "secret", "credentials", "key")
_SHOWN = 60


def worded(pattern: str, words: str) -> AfterValidator:
    """Return what requires a text to match a pattern, and says by these words what is expected."""
    known = re.compile(pattern)

    def check(text: str) -> str:
        if known.fullmatch(text) is None:
            raise PydanticCustomError("worded", "expected {words}", {"words": words})
        return text

    return AfterValidator(check)


def problems_of(error: ValidationError, root: type[BaseModel]) -> str:
    """Return every problem in one line each, joined by semicolons.

    Args:
        error: what pydantic found.
        root: the model that was read.
    """
    known = set(_keys_of(root, set()))
    return "; ".join(_problem(dict(item), known) for item in error.errors(include_url=False))


def _problem(item: dict[str, Any], known: set[str]) -> str:
    steps = [str(step) for step in item["loc"]]
    where, last = ".".join(steps), steps[-1] if steps else ""
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(last, sorted(known), n=1)
        return f"{where}: no such key" + (f"; is {near[0]!r} meant?" if near else "")
    got = item.get("input")
    is_named_so = any(word in last.lower() for word in _SECRET)
    is_plain = isinstance(got, str | int | float | bool) and not is_named_so and "@" not in str(got)
    shown = f", got {str(got)[:_SHOWN]!r}" if is_plain and item["type"] != "missing" else ""
    return f"{where}: {item['msg']}{shown}"


def _keys_of(kind: Any, seen: set[type]) -> Iterator[str]:
    """Return the names of all keys of a model and of those below it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind in seen:
            return
        seen.add(kind)
        for name, field in kind.model_fields.items():
            yield name
            yield from _keys_of(field.annotation, seen)
    elif get_origin(kind) in (Union, types.UnionType) or get_args(kind):
        for one in get_args(kind):
            yield from _keys_of(one, seen)
