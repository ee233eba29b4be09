"""Raise an alarm when a rented GPU is used too little for too long: it is paid for all the same. Pure.

The trainer watches itself and says in its events what holds it back; the alarm carries that diagnosis. What
an epoch measured counts, so nothing is said before one has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fleet_contracts.training import RunEvent, WatchPolicy

WINDOW_SECONDS = 300.0
"""Epochs of which a machine must be idle before a person is called; one short epoch is no sign."""
NOT_DIAGNOSED = "not diagnosed"
_DIAGNOSES = ("loader", "disk", "cpu-augmentation", "small-batch", "memory-near-limit")
"""What the watch says of a machine that is held back; its other news are of downloads and the like."""


@dataclass(frozen=True, slots=True)
class Starved:
    """Say that a GPU was used too little; shares from 0 to 1.

    `kind` and `why` are the training watch's own; `advice` is what it did or why it could do nothing.
    """

    epoch: int
    seconds: float
    utilisation: float
    least: float
    data_wait: float
    kind: str = NOT_DIAGNOSED
    why: str = ""
    advice: str = ""

    def line(self) -> str:
        """Return it in a sentence."""
        told = f"the GPU was {self.utilisation:.0%} busy over {self.seconds:.0f} s up to epoch {self.epoch}"
        waits = f"steps waited {self.data_wait:.0%} of their time for data"
        because = "; ".join(filter(None, (self.kind, self.why, self.advice)))
        return f"{told}, less than {self.least:.0%}; {waits}; diagnosis: {because}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "line": self.line()}


def starved(
    events: Sequence[RunEvent], policy: WatchPolicy, window: float = WINDOW_SECONDS
) -> Starved | None:
    """Return the alarm that a run's events amount to now, None where its GPU has enough to do.

    Args:
        events: of one attempt on a machine with a GPU, oldest first.
        policy: how busy a card has to be.
        window: seconds of training that have to be below that, on average; a machine begins it anew.
    """
    seconds = busy = waited = 0.0
    newest: RunEvent | None = None
    for event in reversed(_on_this_machine(events)):
        numbers = _numbers(event)
        if numbers is None:
            continue
        newest = newest or event
        took, used, wait = numbers
        seconds, busy, waited = seconds + took, busy + took * used, waited + took * wait
        if seconds >= window:
            break
    if newest is None or seconds < window or busy / seconds >= policy.low_utilisation:
        return None
    kind, why, advice = _diagnosis(events)
    return Starved(
        newest.epoch, round(seconds, 1), round(busy / seconds, 4), policy.low_utilisation,
        round(waited / seconds, 4), kind, why, advice,
    )  # fmt: skip


def _on_this_machine(events: Sequence[RunEvent]) -> Sequence[RunEvent]:
    begins = [number for number, event in enumerate(events) if event.kind in ("started", "resumed")]
    return events[begins[-1] :] if begins else events


def _numbers(event: RunEvent) -> tuple[float, float, float] | None:
    """Return an epoch's seconds, utilisation and wait; a machine wrote them, so they are checked."""
    if event.kind != "epoch":
        return None
    took, used, wait = (event.data.get(name) for name in ("seconds", "utilisation", "data_wait_share"))
    if not isinstance(took, int | float) or not isinstance(used, int | float) or not 0.0 < took < 1e7:
        return None
    waited = float(wait) if isinstance(wait, int | float) else 0.0
    return float(took), min(max(float(used), 0.0), 1.0), min(max(waited, 0.0), 1.0)


def _diagnosis(events: Sequence[RunEvent]) -> tuple[str, str, str]:
    """Return what the watch found last that is not fine."""
    for event in reversed(events):
        kind = str(event.data.get("kind") or "")
        if event.kind == "watch" and kind in _DIAGNOSES:
            return kind, str(event.data.get("why") or ""), str(event.data.get("advice") or "")
    return NOT_DIAGNOSED, "the training watch told nothing so far", ""
