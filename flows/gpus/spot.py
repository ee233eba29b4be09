"""Decide where a run goes on: stay, move, wait, or take on demand to the end. Minutes, dollars an hour.

The rule weighs deadline, price and how often an offer died. As long as there is more time than work, the run
rents the spot machine that is cheapest per minute of work it can keep, and waits where there is none. When
what is left of the time is just what on demand needs, it takes on demand and keeps it: after that point
nothing the market does can make it late. The idea of the safety net is that of "Can't Be Late: Optimizing
Spot Instance Savings under Deadlines" (NSDI 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SPARE = 2.0
"""Minutes kept beside the safety net: a decision is taken once a minute and may be taken late."""
CLEARLY = 0.9
"""Share of on demand's price under which spot is worth waiting for."""
PRIOR_LIVES, PRIOR_MINUTES = 1.0, 120.0
"""What is believed of an offer nobody has tried: one death in two hours."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Describe something that can be rented; `deaths` and `lived` are what we saw of it.

    `speed` is how fast it works next to the machine that the situation's minutes are counted on.
    """

    name: str
    spot: bool
    price: float
    available: bool = True
    deaths: int = 0
    lived: float = 0.0
    """Minutes our machines of this offer ran."""
    speed: float = 1.0
    entry: float = 0.0
    """Dollars each start there costs beside its time, such as for the data sent to it."""
    doubtful: bool = False
    """It refused this run before: no machine is given up for it, unless for safety."""

    @property
    def minutes_to_death(self) -> float:
        """Return the time it is expected to live: what was seen, mixed with what is believed beforehand."""
        return (self.lived + PRIOR_MINUTES) / (self.deaths + PRIOR_LIVES)


@dataclass(frozen=True, slots=True)
class Situation:
    """Hold what is known at a moment; times in minutes.

    `work_saved` is the work left counted from the last uploaded checkpoint, `work_here` from where the
    present machine is; `cold_left` is what is left of the present machine's start.
    """

    time_left: float
    work_saved: float
    work_here: float
    cold_start: float
    epoch: float
    here: str = ""
    cold_left: float = 0.0
    offers: tuple[Offer, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """Say what to do: `rent` names an offer, `stay` and `wait` name none."""

    kind: Literal["stay", "rent", "wait"]
    offer: str = ""
    why: str = ""


def decide(now: Situation) -> Move:
    """Return the next move."""
    here = next((one for one in now.offers if one.name == now.here), None)
    # (1) a spot machine may die this minute, and then its work since the checkpoint is lost
    on_demand = _cheapest_in_time(now)
    if on_demand is not None and must_be_safe(now, on_demand.speed):
        return _to_safety(now, here, on_demand)
    # (2) the cheapest work, counting what a start and a death cost
    sure = [one for one in now.offers if one.available and not (here is not None and one.doubtful)]
    best = min(sure, key=lambda one: _cost(one, now), default=None)
    if best is None:
        return Move("wait", why="nothing is to be had")
    if here is not None:
        return _stay_or_move(now, here, best)
    # (3) waiting costs time only, and time is what is left over
    if not best.spot and _spot_would_be_cheaper(now, best):
        return Move("wait", why="a spot machine may come while there is time")
    return Move("rent", best.name, "the cheapest work")


def must_be_safe(now: Situation, speed: float = 1.0) -> bool:
    """Tell whether on demand has to be taken now so that the work is done in time, whatever dies."""
    return now.time_left <= now.work_saved / speed + now.cold_start + SPARE


def work_price(offer: Offer, now: Situation) -> float:
    """Return dollars for an hour's worth of kept work: a death costs half an epoch and a start."""
    price = offer.price / offer.speed
    if not offer.spot:
        return price
    lost = now.cold_start + now.epoch / offer.speed / 2.0
    return price * (1.0 + lost / offer.minutes_to_death)


def _cheapest_in_time(now: Situation) -> Offer | None:
    """Return the cheapest on-demand machine that is still fast enough, else the fastest."""
    steady = [one for one in now.offers if one.available and not one.spot]
    in_time = [one for one in steady if now.work_saved / one.speed + now.cold_start <= now.time_left]
    if in_time:
        return min(in_time, key=lambda one: work_price(one, now))
    return max(steady, key=lambda one: one.speed, default=None)


def _to_safety(now: Situation, here: Offer | None, on_demand: Offer) -> Move:
    if here is not None and not here.spot:
        return Move("stay", why="no time left to leave on demand")
    needed = now.work_saved / on_demand.speed + now.cold_start
    if here is not None and needed > now.time_left and now.work_here / here.speed + now.cold_left <= needed:
        # Sellers were away, or refused: the moment has passed.
        return Move("stay", why="on demand would be late, and this machine is further")
    return Move("rent", on_demand.name, "the time left is what on demand needs")


def _stay_or_move(now: Situation, here: Offer, best: Offer) -> Move:
    """Leave a machine only for a clear gain, and only while another start fits before the safety net."""
    if best.name == here.name:
        return Move("stay", why="nothing is cheaper")
    if now.work_here < now.work_saved:
        return Move("stay", why="the next checkpoint comes first")
    if now.time_left <= now.work_saved / best.speed + 2.0 * now.cold_start + now.epoch + SPARE:
        return Move("stay", why="a move would use up the slack")
    if _cost(here, now) - _cost(best, now) <= here.price * now.epoch:
        return Move("stay", why="a move would gain too little")
    return Move("rent", best.name, "cheaper work, its start counted")


def _cost(offer: Offer, now: Situation) -> float:
    """Return what finishing with this offer would cost, as far as can be seen."""
    is_here = offer.name == now.here
    start = now.cold_left if is_here else now.cold_start
    left = now.work_here if is_here else now.work_saved
    entry = 0.0 if is_here else offer.entry * 60.0  # prices are by the hour, times in minutes
    return work_price(offer, now) * left + offer.price * start + entry


def _spot_would_be_cheaper(now: Situation, on_demand: Offer) -> bool:
    asked = work_price(on_demand, now)
    return any(one.spot and work_price(one, now) < CLEARLY * asked for one in now.offers)
