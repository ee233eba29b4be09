"""Build the wire documents: frozen, versioned, and keeping what they do not know.

An old box must be able to read, change and send back a document that a newer server wrote, so
unknown fields survive a round trip (`extra="allow"`), at the top and in every nested value.

    >>> from fleet_contracts.base import Value
    >>> class Point(Value):
    ...     x: int
    >>> Point.model_validate({"x": 1, "colour": "red"}).model_dump()
    {'x': 1, 'colour': 'red'}
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fleet_contracts.errors import MalformedDocument
from fleet_contracts.ids import TaskId

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
"""Limit on one encoded document; a manifest is read line by line and each line is bounded by it."""


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc)


UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A moment with a time zone, kept in UTC."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


def utc_now() -> datetime:
    """Return the present moment in UTC, cut to milliseconds so that it survives a round trip."""
    now = datetime.now(timezone.utc)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Value(BaseModel):
    """Be a part of a wire document: frozen, compared by value, unknown fields kept."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=(), allow_inf_nan=False)


class WireDocument(Value):
    """Be a document that crosses a process border.

    `schema_version` counts additions. A reader accepts newer versions, because additions are kept
    and nothing is ever removed or given a new meaning; that would be a new document.
    """

    schema_version: Annotated[int, Field(ge=1)] = 1
    task_id: TaskId


D = TypeVar("D", bound=Value)


def encode(document: Value) -> bytes:
    """Write a document as one line of JSON with sorted keys, so that equal documents hash equally."""
    import json

    data = document.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(kind: type[D], content: bytes, *, where: str) -> D:
    """Read a document from JSON bytes.

    Args:
        kind: the document class that is expected.
        content: JSON, at most `MAX_DOCUMENT_BYTES`.
        where: file, key or topic, for the error message.

    Raises:
        MalformedDocument: not JSON, too long, or fields missing or out of range; the message lists
            every field that is wrong.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise MalformedDocument(
            expected=f"{kind.__name__} of at most {MAX_DOCUMENT_BYTES} bytes",
            got=f"{len(content)} bytes",
            where=where,
        )
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in item['loc']) or 'document'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise MalformedDocument(expected=kind.__name__, got=problems, where=where) from error
