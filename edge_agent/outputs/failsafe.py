"""Decide when a line may no longer rely on us, and what its output then shows: pure, no clock.

    healthy --trouble--> failing --trouble for `after_s`--> safe --no trouble for `recover_s`--> healthy
       ^                    |
       +---- all is well ---+

With `reject_all` the safe state also lasts until the last part that nobody inspected has passed the output,
which is its travel time after the trouble.

Trouble is an output whose device does not answer, a loop that no longer turns, or a camera or model that
fails: parts then pass that nobody inspected. An output begins in the safe state, for before the first model
and the first frame nothing is inspected either.

    >>> state = FailSafe(Patience(after_s=0.25, recover_s=1.0), now=0.0)
    >>> state.step(0.0, ""), state.step(1.0, "")
    ('safe', 'healthy')
    >>> state.step(2.0, "camera away"), state.step(2.25, "camera away")
    ('failing', 'safe')
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edge_agent.outputs.base import Write

State = Literal["healthy", "failing", "safe"]
Mode = Literal["reject_all", "pass_all", "stop_line"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Say how long trouble must last to count, and how long it must be gone, in seconds."""

    after_s: float
    recover_s: float


class FailSafe:
    """Hold the state of one output; times are seconds of one clock that never goes back."""

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self.state: State = "safe"
        self.why = "starting"
        """What led to the state it is in; "" when healthy."""
        self._since = now

    def step(self, now: float, trouble: str, not_before: float = -math.inf) -> State:
        """Take in what is wrong at `now` ("" = nothing), return the state; safe lasts until `not_before`."""
        if self.state == "healthy":
            if trouble:
                self._go("failing", now, trouble)
        elif self.state == "failing":
            if not trouble:
                self._go("healthy", now, "")
        elif trouble:
            # It must be well for a while without a break, so that a line does not start and stop.
            self._go("safe", now, trouble)
        elif now >= max(self._since + self._patience.recover_s, not_before):
            self._go("healthy", now, "")
        if self.state == "failing" and now - self._since >= self._patience.after_s:
            self._go("safe", now, trouble)
        return self.state

    def _go(self, state: State, now: float, why: str) -> None:
        self.state, self._since, self.why = state, now, why


def writes_of(state: State, mode: Mode, why: str) -> tuple[Write, ...]:
    """Return what an output shows in a state: what protects the line first, then the flag that says so.

    `reject_all` holds the reject point, `pass_all` the accept point, `stop_line` the stop point.
    """
    if state != "safe":
        return (Write("stop", 0), Write("reject", 0), Write("accept", 0), Write("unsure", 0),
                Write("failsafe", 0))  # fmt: skip
    held = {"reject_all": "reject", "pass_all": "accept", "stop_line": "stop"}[mode]
    levels = [Write(point, int(point == held), note=why) for point in ("stop", "reject", "accept", "unsure")]
    levels.sort(key=lambda write: -write.value)
    return (*levels, Write("failsafe", 1, note=why))
