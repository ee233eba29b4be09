"""Say what an output is: a device with a few named points that can be written. Its twin is `memory`.

An adapter maps points to coils, nodes, topics, bits or pins; a point without an address is not its own.
It is called by one thread at a time, never the loop's, so it may block: a write for its timeout at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, get_args, runtime_checkable

from detection.decision import Finding
from fleet_contracts.samples import Verdict

Lane = Literal["accept", "reject", "unsure"]
"""A point that is pulsed when a part of that verdict is due."""
Point = Literal["accept", "reject", "unsure", "parts", "verdict", "heartbeat", "failsafe", "stop"]
"""`parts` counts parts modulo 65536, `verdict` is 1 accept, 2 reject or 3 unsure, the rest is 0 or 1."""
LANES: tuple[Lane, ...] = get_args(Lane)
NUMBERS: frozenset[Point] = frozenset(("parts", "verdict"))
INFORMATION: frozenset[Point] = NUMBERS | {"heartbeat", "failsafe"}
"""Points that move nothing on the line: one that is refused must not keep the ejector from its work."""
VERDICT_CODES: Mapping[Verdict, int] = {"accept": 1, "reject": 2, "unsure": 3}


@dataclass(frozen=True, slots=True)
class Shot:
    """Hold a decided part on its way to the output: moments are seconds of `time.monotonic()`."""

    part_id: str
    camera: str
    verdict: Verdict
    number: int
    """Counts the decided parts from 1 since the agent was started."""
    captured_at: datetime
    due_mono: float
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Write:
    """Set one point; `shot` is the part it is written for, `note` says why in words where there is a why."""

    point: Point
    value: int
    shot: Shot | None = None
    note: str = ""


class Output(Protocol):
    """Be a device the line listens to; one thread at a time calls it."""

    @property
    def points(self) -> frozenset[Point]:
        """Return the points that have an address."""

    def connect(self) -> None:
        """Connect, and test what can be tested; called after `close`, on a thread that may wait for a while.

        Raises:
            OutputAway: the device does not answer, refuses, or fails its test.
        """

    def write(self, write: Write) -> None:
        """Set a point that has an address and wait for the device's word that it is set.

        Raises:
            OutputRefused: the device answers, but will not have this address; other points may well work.
            OutputAway: no such word within the timeout. Whether the point was set is then not known.
        """

    def close(self) -> None:
        """Let go of the device; never raises, and may be called twice."""


@runtime_checkable
class Readable(Protocol):
    """Be an output whose addresses can be tried without acting on the line."""

    def refused(self) -> Mapping[Point, str]:
        """Read at every address and set nothing; return the points that are refused, with address and why.

        Raises:
            OutputAway: the device does not answer.
        """
