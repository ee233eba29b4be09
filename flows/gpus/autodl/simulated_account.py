"""Hold what both simulated APIs of AutoDL share: a clock that can be moved, refusals, pages, guests."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet_contracts import utc_now
from flows.gpus.autodl.command import environment_in
from flows.gpus.starting import UNTIL

Arguments = Mapping[str, Any]
Call = Callable[[Arguments], Any]
"""One endpoint: takes the arguments and returns `data`, or raises `Refusal`."""
NEVER = {"Time": "0001-01-01T00:00:00Z", "Valid": False}
"""How AutoDL writes a moment that did not come."""


class Refusal(Exception):
    """Carry the code and message of an answer that is not `Success`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code, self.message = code, message


@dataclass
class Clock:
    """Be the seller's clock: the machine's, moved forward as told."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        """Return the seller's present moment."""
        return utc_now() + self.ahead


@dataclass
class Weather:
    """Say how the seller treats its callers, and count what hit: `standing` is a fault until it is calmed."""

    standing: str = ""
    lag: timedelta = timedelta(0)
    """How late lists show what is new."""
    lose_next_launch: bool = False
    fired: dict[str, int] = field(default_factory=dict)

    def hit(self, fault: str) -> None:
        """Note that a fault had its effect."""
        self.fired[fault] = self.fired.get(fault, 0) + 1


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """Say how a machine truly is; `costs` while a GPU of it is billed."""

    machine: str
    name: str
    command: str
    costs: bool


def required(arguments: Arguments, *names: str) -> list[Any]:
    """Return arguments, or refuse as AutoDL does where one is missing."""
    if any(arguments.get(name) in (None, "") for name in names):
        raise Refusal("RequestParameterIsWrong", "请求参数错误")
    return [arguments[name] for name in names]


def page_of(rows: Sequence[Any], arguments: Arguments) -> dict[str, Any]:
    """Return one page of a list in AutoDL's form."""
    index, size = (int(one) for one in required(arguments, "page_index", "page_size"))
    first = (index - 1) * size
    return {
        "list": list(rows[first : first + size]),
        "page_index": index,
        "page_size": size,
        "offset": first,
        "max_page": max(-(-len(rows) // size), 1),
        "result_total": len(rows),
    }


def moment(at: datetime | None) -> dict[str, Any]:
    """Return a moment as AutoDL writes one that may not have come."""
    return {"Time": at.isoformat(timespec="seconds"), "Valid": True} if at else dict(NEVER)


def uuid_of(prefix: str) -> str:
    """Return a new name as AutoDL makes them."""
    return f"{prefix}{secrets.token_hex(6)}"


def trainer_ends(command: str) -> datetime | None:
    """Return when the program of a start command would end itself, None where it has no end."""
    until = environment_in(command).get(UNTIL)
    return datetime.fromisoformat(until) if until else None
