"""Fix what the simulated market is like. These numbers were committed before a policy was tried on them.

Discounts and mean times to preemption follow what the engines' price lists and the literature show: no
discount at some sellers, 50 to 70 % at most; an hour to half a day between preemptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

MINUTE = 1.0 / 60.0


@dataclass(frozen=True, slots=True)
class Climate:
    """Describe a market: shares from 0 to 1, hours, dollars an hour."""

    discount: float
    """What spot costs less than on demand, on the average."""
    hours_to_preemption: float
    """Mean of an exponential time."""
    hours_away: float = 0.5
    """Mean time until a place that took its machines back has some again, exponential."""
    on_demand: tuple[float, ...] = (1.00, 1.06, 1.13)
    """On-demand price of each place."""
    price_spread: float = 0.15
    """Spot prices wander within this share of their mean, and never over on demand."""


@dataclass(frozen=True, slots=True)
class Work:
    """Describe a run in minutes; work is counted in minutes of an undisturbed machine."""

    minutes: int = 240
    cold_start: int = 6
    """From the launch call to the first step: boot, image, data, checkpoint."""
    epoch: int = 3
    """Between two uploaded checkpoints: what a preemption loses at most."""
    slack: float = 1.5
    """Deadline as a multiple of what on demand would take."""

    @property
    def deadline(self) -> int:
        """Return the minute by which the work has to be done."""
        return round(self.slack * (self.minutes + self.cold_start))


DISCOUNTS = (0.0, 0.5, 0.6, 0.7)
HOURS_TO_PREEMPTION = (1.0, 4.0, 12.0)
SLACKS = (1.2, 1.5, 2.0)


def grid() -> tuple[tuple[Climate, Work], ...]:
    """Return every cell of the grid: each discount with each time to preemption and each slack."""
    cells = product(DISCOUNTS, HOURS_TO_PREEMPTION, SLACKS)
    return tuple((Climate(discount, hours), Work(slack=slack)) for discount, hours, slack in cells)
