"""Decide what the line makes next and when the demo is over; pure, from what was looked at.

* known: production as the first champion learnt it
* changed: the new look and the new kind come; a few of them must wait for their class
* training: enough is labelled; the line goes on at a slower pace, the cores belong to the training
* settling: both boxes serve the new release and show that they inspect with it
* done: nothing left to see
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from demo.line.writer import LineOrder
from demo.loop.glance import Glance
from demo.loop.settings import LoopSettings
from demo.loop.state import DemoState

Act = Literal["known", "changed", "training", "settling", "done"]
_TURNED_DOWN = ("refused", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Floor:
    """Hold what the lines made, by device, and how many parts the labeller set aside for want of a name."""

    made: dict[str, int]
    set_aside: int = 0


def act_of(settings: LoopSettings, state: DemoState, glance: Glance, floor: Floor) -> Act:
    """Return which act the demo is in."""
    if state.changed_at is None and min(floor.made.values(), default=0) < settings.paces.known_parts:
        return "known"
    served = state.served_at is not None or is_served(settings, state, glance)
    if served:
        return "done" if has_settled(settings, glance) else "settling"
    if glance.run.state in _TURNED_DOWN:
        # The same data would be turned down again: more parts and labels must come first.
        return "changed"
    if glance.run.state == "active" or glance.trigger_new >= settings.training.threshold:
        return "training"
    return "changed"


def is_served(settings: LoopSettings, state: DemoState, glance: Glance) -> bool:
    """Tell whether every box serves a release newer than the one the demo began with."""
    base = state.base_version or 1
    oldest = glance.oldest_version(settings.devices)
    return oldest > base and glance.all_serve(settings.devices, oldest)


def has_settled(settings: LoopSettings, glance: Glance) -> bool:
    """Tell whether every box has told of its swap and the rollout is closed."""
    swaps = [report.last_swap for report in glance.devices.values()]
    told = len(swaps) >= len(settings.devices) and all(swap is not None for swap in swaps)
    return told and glance.rollout_state == "done" and glance.candidate_is("promoted")


def needs_class(settings: LoopSettings, glance: Glance, floor: Floor) -> bool:
    """Tell whether the labeller has met enough that no class names for the operator to add one."""
    return settings.new_class not in glance.classes and floor.set_aside >= settings.stains_before_class


def order_of(settings: LoopSettings, act: Act) -> LineOrder:
    """Return what a line makes in an act."""
    paces = settings.paces
    pace = {"known": paces.known, "changed": paces.changed}.get(act, paces.training)
    return LineOrder(mix="known" if act == "known" else "changed", parts_per_second=pace, stop=act == "done")
