"""Draw one world out of a climate: by place and minute, whether it has spot machines and at what price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.gpus.market.climate import Climate

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_PRICE_HOLDS = 30
"""Minutes a spot price stays as it is."""


@dataclass(frozen=True, slots=True)
class World:
    """Hold a market's whole course; arrays are `(places, minutes)`, prices in dollars an hour."""

    on_demand: tuple[float, ...]
    spot_price: Doubles
    has_spot: Flags

    @property
    def places(self) -> int:
        """Return the number of places."""
        return len(self.on_demand)

    @property
    def minutes(self) -> int:
        """Return how long the world was drawn for."""
        return int(self.has_spot.shape[1])


def draw(climate: Climate, minutes: int, seed: int) -> World:
    """Draw a world; the same seed gives the same one.

    Availability alternates between exponential times with and without machines, begun in equilibrium; a
    machine is taken away when its place's time with machines ends. Prices take steps of a bounded walk.
    """
    rng = np.random.default_rng(seed)
    places = len(climate.on_demand)
    has = np.stack([_availability(climate, minutes, rng) for _ in range(places)])
    price = np.stack([_prices(climate, one, minutes, rng) for one in climate.on_demand])
    return World(climate.on_demand, price, has)


def _availability(climate: Climate, minutes: int, rng: np.random.Generator) -> Flags:
    up, down = climate.hours_to_preemption * 60.0, climate.hours_away * 60.0
    has = np.zeros(minutes, np.bool_)
    is_up = bool(rng.random() < up / (up + down))
    at = 0.0
    while at < minutes:
        lasts = rng.exponential(up if is_up else down)
        has[int(at) : int(at + lasts)] = is_up
        at += max(lasts, 1.0)
        is_up = not is_up
    return has


def _prices(climate: Climate, on_demand: float, minutes: int, rng: np.random.Generator) -> Doubles:
    steps = minutes // _PRICE_HOLDS + 1
    walk = np.clip(np.cumsum(rng.normal(0.0, climate.price_spread / 4, steps)), -1.0, 1.0)
    share = 1.0 + np.clip(walk, -climate.price_spread, climate.price_spread)
    mean = on_demand * (1.0 - climate.discount)
    return np.minimum(np.repeat(mean * share, _PRICE_HOLDS)[:minutes], on_demand)
