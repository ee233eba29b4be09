"""Play every policy over the seeds of one cell, and gather the figures of the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.gpus.market import rivals
from flows.gpus.market.climate import Climate, Work
from flows.gpus.market.optimum import optimum
from flows.gpus.market.play import Outcome, Policy, play
from flows.gpus.market.world import draw
from flows.gpus.spot import decide

OURS, ON_DEMAND, CHEAPEST = "ours", "on demand", "cheapest spot"
RECOVERY, RECOVERY_ANY = "recovery, spot", "recovery, any"
POLICIES: dict[str, Callable[[], Policy]] = {
    OURS: lambda: decide,
    ON_DEMAND: lambda: rivals.always_on_demand,
    CHEAPEST: lambda: rivals.always_cheapest_spot,
    RECOVERY: lambda: rivals.recovery(any_of=False),
    RECOVERY_ANY: lambda: rivals.recovery(any_of=True),
}
_LONG = 4
"""Deadlines a world lasts, so that who is late is seen to end."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold one cell: the optimum's cost and every policy's outcome, seed by seed."""

    climate: Climate
    work: Work
    optimum: tuple[float, ...]
    played: dict[str, tuple[Outcome, ...]]

    def ratio(self, policy: str) -> float:
        """Return the policy's mean cost over the optimum's."""
        return sum(one.cost for one in self.played[policy]) / sum(self.optimum)

    def late(self, policy: str) -> int:
        """Count the runs that missed their deadline."""
        return sum(one.is_late for one in self.played[policy])

    def lost(self, policy: str) -> float:
        """Return the mean of the minutes of work that were lost."""
        return sum(one.lost_minutes for one in self.played[policy]) / len(self.optimum)


def play_cell(climate: Climate, work: Work, seeds: Sequence[int]) -> Cell:
    """Play a cell; every policy meets the same worlds."""
    worlds = [draw(climate, work.deadline * _LONG, seed) for seed in seeds]
    played = {name: tuple(play(world, work, make()) for world in worlds) for name, make in POLICIES.items()}
    return Cell(climate, work, tuple(optimum(world, work) for world in worlds), played)


def figures_of(cells: Sequence[Cell]) -> dict[str, float]:
    """Return the grid's figures: ratios of all money paid, and deadlines missed that on demand would meet."""
    best = sum(sum(cell.optimum) for cell in cells)
    paid = {name: sum(one.cost for cell in cells for one in cell.played[name]) for name in POLICIES}
    figures = {
        "rent.vs_optimum": paid[OURS] / best,
        "rent.vs_optimum_worst_cell": max(cell.ratio(OURS) for cell in cells),
        "rent.cells_within_1.25": float(sum(cell.ratio(OURS) <= 1.25 for cell in cells)),
        "rent.cells": float(len(cells)),
        "rent.missed": float(sum(_missed(cell) for cell in cells)),
        "rent.runs": float(sum(len(cell.optimum) for cell in cells)),
    }
    for name, key in ((ON_DEMAND, "on_demand"), (CHEAPEST, "cheapest_spot"), (RECOVERY, "recovery_spot"),
                      (RECOVERY_ANY, "recovery_any")):  # fmt: skip
        figures[f"rent.vs_{key}"] = paid[OURS] / paid[name]
        figures[f"rent.late_{key}"] = float(sum(cell.late(name) for cell in cells))
    return {name: round(value, 4) for name, value in figures.items()}


def _missed(cell: Cell) -> int:
    pairs = zip(cell.played[OURS], cell.played[ON_DEMAND], strict=True)
    return sum(ours.is_late and not steady.is_late for ours, steady in pairs)
