"""Be the policies that ours stands beside, each as it is described where it comes from.

The recovery model follows SkyPilot 0.14.1 (`sky/jobs/recovery_strategy.py`): it knows no deadline; a
preempted job is launched anew at once, in another place before the one that took it, at the lowest price
there; where nothing is to be had it tries again. With spot alone it waits for spot, with `any_of` spot and on
demand it takes whichever is cheaper and to be had at a launch, and stays there. A model of it, not its code.
"""

from __future__ import annotations

from collections.abc import Callable

from flows.gpus.spot import Move, Offer, Situation

Policy = Callable[[Situation], Move]


def always_on_demand(now: Situation) -> Move:
    """Take the cheapest machine that nobody takes away."""
    if now.here:
        return Move("stay")
    return Move("rent", min((one for one in now.offers if not one.spot), key=_price).name)


def always_cheapest_spot(now: Situation) -> Move:
    """Be wherever spot is cheapest this minute, whatever a move costs; wait where there is none."""
    there = [one for one in now.offers if one.spot and one.available]
    if not there:
        return Move("wait")
    best = min(there, key=_price)
    return Move("stay") if best.name == now.here else Move("rent", best.name)


def recovery(*, any_of: bool) -> Policy:
    """Return our model of SkyPilot's recovery, for one run."""
    last = ""

    def policy(now: Situation) -> Move:
        nonlocal last
        if now.here:
            last = now.here
            return Move("stay")
        there = [one for one in now.offers if one.available and (one.spot or any_of)]
        if not there:
            return Move("wait")
        elsewhere = [one for one in there if one.name != last]
        return Move("rent", min(elsewhere or there, key=_price).name)

    return policy


def _price(offer: Offer) -> float:
    return offer.price
