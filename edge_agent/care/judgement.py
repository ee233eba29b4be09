"""Judge from a heartbeat whether the agent is worth keeping alive; pure.

An idle line, a dead camera, an absent broker or a full disk are told in reports and are never a reason to
restart: a restart would mend none of them and would cost the line the seconds in which the model loads.
Only a loop that no longer turns is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Health = Literal["starting", "turning", "hung"]


class HeartbeatState(Protocol):
    """Be what is judged; `Heartbeat` is the real one. Times are seconds of `time.monotonic()`."""

    beats: int
    last_beat_mono: float
    engine_since_mono: float


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Say how long an engine call may take and how long the loop may be silent outside of one, in seconds."""

    engine_s: float = 30.0
    loop_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Say how the loop fares, and why in words a person can use."""

    health: Health
    why: str

    @property
    def is_healthy(self) -> bool:
        """Tell whether the watchdog may be fed."""
        return self.health == "turning"


def judge(heart: HeartbeatState, now_mono: float, deadlines: Deadlines) -> Judgement:
    """Judge the loop at `now_mono`, seconds of `time.monotonic()`."""
    # Read once and in this order: the loop writes its beat before it clears the engine call.
    engine_since, last_beat = heart.engine_since_mono, heart.last_beat_mono
    if engine_since > 0.0:
        taken_s = now_mono - engine_since
        if taken_s > deadlines.engine_s:
            return Judgement(
                "hung",
                f"an engine call has taken {taken_s:.0f} s, allowed are {deadlines.engine_s:g} s"
                " (care.engine_deadline_s)",
            )
        return Judgement("turning", "inspecting")
    if heart.beats == 0:
        # A start that takes long is ended by systemd's own deadline for it.
        return Judgement("starting", "the loop has not turned yet")
    silent_s = now_mono - last_beat
    if silent_s > deadlines.loop_s:
        return Judgement(
            "hung",
            f"the loop has not turned for {silent_s:.0f} s, allowed are {deadlines.loop_s:g} s"
            " (care.loop_deadline_s)",
        )
    return Judgement("turning", "the loop turns")
