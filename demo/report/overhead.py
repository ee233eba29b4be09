"""Tell what passes between "enough is labelled" and the first training step, part by part; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

from demo.report.page import Table
from demo.report.summary import Figure

Whose = Literal["ours", "provider", "data"]


@dataclass(frozen=True, slots=True)
class Part:
    """Hold one part of a beginning; `name` is its figure's."""

    name: str
    what: str
    seconds: float
    whose: Whose = "ours"


@dataclass(frozen=True, slots=True)
class Moments:
    """Hold when each part ended on the side of the cloud, in their order."""

    asked: datetime
    """The threshold was crossed, and the event sent."""
    flow_made: datetime
    flow_began: datetime
    run_opened: datetime
    planned: datetime
    leased: datetime
    ordered: datetime
    booted: datetime


CLOUD: tuple[tuple[str, str, Whose], ...] = (
    ("event", "Prefect: from the event to a flow run", "ours"),
    ("flow", "Prefect: worker takes it up, the flow's process comes up", "ours"),
    ("begin", "flow: snapshot, start weights, run", "ours"),
    ("plan", "flow: offers and plan", "ours"),
    ("lease", "flow: ticket, price check, lease", "ours"),
    ("launch", "flow: the launch call", "ours"),
    ("provider", "provider: the machine boots", "provider"),
)
MACHINE: tuple[tuple[str, str, Whose], ...] = (
    ("boot", "machine: our first process comes up", "ours"),
    ("claim", "machine: ticket by the claim", "ours"),
    ("documents", "machine: plan and manifest", "ours"),
    ("check", "machine: is it what it was sold as", "ours"),
    ("data", "machine: data and weights from the bucket", "data"),
    ("child", "machine: the training process imports torch", "ours"),
    ("first_step", "machine: model, loader, until the first step", "ours"),
)


def parts_of(moments: Moments, began: dict[str, float]) -> tuple[Part, ...]:
    """Return every part; `began` holds the machine's own seconds by name."""
    m = moments
    at = (m.asked, m.flow_made, m.flow_began, m.run_opened, m.planned, m.leased, m.ordered, m.booted)
    took = [max((after - before).total_seconds(), 0.0) for before, after in pairwise(at)]
    cloud = [Part(name, what, seconds, whose)
             for (name, what, whose), seconds in zip(CLOUD, took, strict=True)]  # fmt: skip
    machine = [Part(name, what, began[name], whose) for name, what, whose in MACHINE if name in began]
    return (*cloud, *machine)


def overhead(parts: Sequence[Part]) -> float:
    """Return the seconds that neither the provider nor the copy of the data took."""
    return sum(one.seconds for one in parts if one.whose == "ours")


def figures_of(parts: Sequence[Part]) -> dict[str, Figure]:
    """Return the figures of a beginning for `summary.json`."""
    named: dict[str, Figure] = {f"rent.beginning.{one.name}_s": round(one.seconds, 2) for one in parts}
    return {"rent.overhead_s": round(overhead(parts), 2), **named}


def table_of(parts: Sequence[Part]) -> Table:
    """Return the parts as a table, and what they come to."""
    rows = [(one.what, _words(one.whose), f"{one.seconds:.1f} s") for one in parts]
    rows.append(("overhead of our own", "", f"{overhead(parts):.1f} s"))
    head = ("part", "whose", "took")
    return Table("From enough labels to the first training step", head, tuple(rows))


def _words(whose: Whose) -> str:
    return {"ours": "ours", "provider": "the provider's", "data": "the data copy's"}[whose]
