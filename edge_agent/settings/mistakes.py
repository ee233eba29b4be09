"""Say every mistake of a configuration in a line of its own: key, what was expected, what was got; pure.

>>> print(Mistake("broker.port", "a number up to 65535", "99999"))
broker.port: expected a number up to 65535, got 99999
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from edge_agent.redaction import is_secret, redact

MAX_VALUE_CHARS = 80
PATTERNS = {
    r"^https?://.*/$": 'an address such as "https://host/path/", with a slash at its end',
    r"^(https?://.*)?$": 'an address such as "https://host", or ""',
    r"^[a-z0-9][a-z0-9-]{0,62}$": "at most 63 lower-case letters, digits and dashes",
}
"""What patterns of the sections mean, for people."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Hold one mistake; `key` is dotted from the top of the file, `expected` "" lets `got` say all."""

    key: str
    expected: str
    got: str = ""

    def __str__(self) -> str:
        """Write it in one line."""
        if not self.expected:
            return f"{self.key}: {self.got}"
        return f"{self.key}: expected {self.expected}" + (f", got {self.got}" if self.got else "")


def mistakes_of(error: ValidationError, model: type[BaseModel]) -> tuple[Mistake, ...]:
    """Return what pydantic found, in our words; unknown keys come with the nearest known one."""
    found = dict.fromkeys(_mistake_of(item, model) for item in error.errors(include_url=False))
    return tuple(sorted(found, key=lambda mistake: mistake.key))


def keys_of(model: type[BaseModel], prefix: str = "") -> tuple[str, ...]:
    """Return every dotted key a configuration may hold; members of a list share the list's name."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        if not inner:
            keys.append(prefix + name)
        for one in inner:
            keys += keys_of(one, f"{prefix}{name}.")
    return tuple(dict.fromkeys(keys))


def _mistake_of(item: Mapping[str, Any], model: type[BaseModel]) -> Mistake:
    location: Sequence[int | str] = item["loc"]
    key = ".".join(_step(step) for step in location).replace(".[", "[") or "(the file)"
    if item["type"] == "missing":
        return Mistake(key, "a value", "nothing: the key is missing")
    if item["type"] == "union_tag_invalid":
        return _wrong_kind(key, item)
    if item["type"] == "union_tag_not_found":
        return Mistake(f"{key}.{_tag_name(item)}", "a value", "nothing: the key is missing")
    if item["type"] == "extra_forbidden":
        return Mistake(key, f"a known key{_suggestion(location, model)}", "one the agent does not know")
    words = str(item["msg"])
    if item["type"] in ("value_error", "assertion_error"):
        return Mistake(key, "", words.partition(", ")[2] or words)
    pattern = item.get("ctx", {}).get("pattern")
    words = words.removeprefix("Input should be ").removeprefix("String should ").partition(", unable")[0]
    return Mistake(key, PATTERNS.get(pattern, words), _value(key, item.get("input")))


def _wrong_kind(key: str, item: Mapping[str, Any]) -> Mistake:
    """Say which kinds there are, of a section that is one of several by a key of its own."""
    known = [word.strip(" '") for word in str(item["ctx"]["expected_tags"]).split(",")]
    got = str(item["ctx"]["tag"])
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.6)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return Mistake(f"{key}.{_tag_name(item)}", f"one of {', '.join(known)}{hint}", repr(got))


def _tag_name(item: Mapping[str, Any]) -> str:
    return str(item["ctx"]["discriminator"]).strip("'")


def _step(step: int | str) -> str:
    return f"[{step}]" if isinstance(step, int) else step


def _value(key: str, value: object) -> str:
    if is_secret(key.rpartition(".")[2]):
        return "a value that is not shown here"
    text = redact(repr(value))
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "..."


def _suggestion(location: Sequence[int | str], model: type[BaseModel]) -> str:
    """Name the nearest key of this section, else the section that has a key of this name."""
    name = str(location[-1])
    here = _names_at(location[:-1], model)
    near = difflib.get_close_matches(name, here, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]}?)"
    elsewhere = [key for key in keys_of(model) if key.rpartition(".")[2] == name]
    return f" (it belongs to {elsewhere[0]})" if elsewhere else ""


def _names_at(location: Sequence[int | str], model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys known at a place; list indexes and the names of kinds are passed over."""
    models: Iterable[type[BaseModel]] = (model,)
    for step in map(str, location):
        fields = [one.model_fields[step] for one in models if step in one.model_fields]
        if fields:
            models = [inner for field in fields for inner in models_in(field.annotation)]
    return tuple(dict.fromkeys(name for one in models for name in one.model_fields))


def models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the sections an annotation may hold, however deep in lists, unions and optionals."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
