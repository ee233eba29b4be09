"""Tell what a run would have cost somebody who knew the whole course of the market: a bound, not a policy.

Dynamic programming over minutes and minutes of work done. It may wait, start anywhere, move, and leave a spot
machine the minute before it is taken; it never loses work, so what it pays is a lower bound for every policy
that keeps the deadline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flows.gpus.market.climate import Work
from flows.gpus.market.world import World

Doubles = npt.NDArray[np.float64]


def optimum(world: World, work: Work) -> float:
    """Return the least cost in dollars with which the work can be done by its deadline.

    Infinite when even on demand would be late.
    """
    last = min(work.deadline, world.minutes)
    price, up = _machines(world, last)
    before = np.concatenate([np.zeros((len(price), 1)), np.cumsum(price, axis=1)], axis=1)
    lives = _minutes_alive(up)
    idle = np.full(work.minutes + 1, np.inf)
    idle[0] = 0.0
    # ready[k][t]: least cost of being at machine k, started, at the beginning of minute t, by work done
    ready: list[dict[int, Doubles]] = [{} for _ in price]
    for minute in range(last + 1):
        for machine, waiting in enumerate(ready):
            there = waiting.pop(minute, None)
            if there is not None:
                idle = np.minimum(idle, there)
                _work_on(waiting, there, minute, (price[machine], up[machine]))
        for machine, waiting in enumerate(ready):
            started = minute + work.cold_start
            if minute < last and started <= last and lives[machine, minute] >= work.cold_start:
                paid = before[machine, started] - before[machine, minute]
                _offer(waiting, started, idle + paid)
    return float(idle[work.minutes])


def _machines(world: World, last: int) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Return price a minute and availability of every machine, spot places first."""
    steady = np.repeat(np.asarray(world.on_demand)[:, None], last, axis=1)
    price = np.concatenate([world.spot_price[:, :last], steady]) / 60.0
    up = np.concatenate([world.has_spot[:, :last], np.ones(steady.shape, np.bool_)])
    return price, up


def _minutes_alive(up: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return for each machine and minute how many minutes from there on it is there without a break."""
    alive = np.zeros((up.shape[0], up.shape[1] + 1), np.int64)
    for minute in range(up.shape[1] - 1, -1, -1):
        alive[:, minute] = np.where(up[:, minute], alive[:, minute + 1] + 1, 0)
    return alive


def _work_on(
    waiting: dict[int, Doubles], there: Doubles, minute: int, machine: tuple[Doubles, npt.NDArray[np.bool_]]
) -> None:
    price, up = machine
    if minute < len(price) and up[minute]:
        _offer(waiting, minute + 1, np.concatenate([[np.inf], there[:-1] + price[minute]]))


def _offer(waiting: dict[int, Doubles], minute: int, cost: Doubles) -> None:
    known = waiting.get(minute)
    waiting[minute] = cost if known is None else np.minimum(known, cost)
