"""Say what is measured and how long it takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BARE, ENGINE, LOOP, PREDICT, ROBOFLOW = "bare", "engine", "loop", "predict", "roboflow"
FRAME_MS = {64: 3.0, 320: 26.0, 640: 100.0}
"""About what one frame takes on one 2.5 GHz core with yolo11n; for the remaining time that is shown."""
SWAP_S = 0.5
WARM = 5
"""Frames at the head of every block that are not counted: the caches held another contender's weights."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Measure contenders in turn.

    Attributes:
        size: side of the model's input in pixels.
        cores: how many the contenders may use; the engine has one thread in all of them.
        every: a contender runs in every n-th round; those that no target rests on run in fewer.
        blocks: rounds.
        frames: counted frames of a block.
    """

    size: int
    cores: int
    every: Mapping[str, int]
    blocks: int = 10
    frames: int = 200

    @property
    def name(self) -> str:
        """Return what tells it from the others."""
        return f"{self.size} px, {self.cores} core{'s' if self.cores > 1 else ''}"

    def seconds(self) -> float:
        """Return about how long it takes."""
        turns = sum(len(self.order(number)) for number in range(self.blocks))
        return turns * (self.frames + WARM) * FRAME_MS[self.size] / 1e3

    def order(self, number: int) -> tuple[str, ...]:
        """Return who runs in a round, in order: there and back, so that a steady drift favours nobody."""
        taking_part = tuple(name for name, every in self.every.items() if number % every == 0)
        return taking_part if number % 2 == 0 else taking_part[::-1]


@dataclass(frozen=True, slots=True)
class Tails:
    """Measure the loop with the other core idle and busy, block by block."""

    size: int = 320
    pairs: int = 40
    frames: int = 500

    def seconds(self) -> float:
        """Return about how long it takes."""
        return 2 * self.pairs * (self.frames + WARM) * FRAME_MS[self.size] / 1e3


@dataclass(frozen=True, slots=True)
class Growth:
    """Watch the loop's memory over frames (with a small input, to be done in time) and over swaps."""

    frames: int = 100_000
    frames_size: int = 64
    sample_every: int = 2_000
    swaps: int = 100
    swaps_size: int = 320
    frames_per_swap: int = 10
    first_swaps: int = 5
    """Swaps before the first sample: two models side by side are what memory is needed for."""

    def seconds(self) -> float:
        """Return about how long it takes."""
        per_swap = SWAP_S + self.frames_per_swap * FRAME_MS[self.swaps_size] / 1e3
        return self.frames * FRAME_MS[self.frames_size] / 1e3 + (self.swaps + self.first_swaps) * per_swap


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold everything one run measures."""

    scenarios: tuple[Scenario, ...]
    tails: tuple[Tails, ...] = ()
    growth: Growth | None = None
    sizes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        used = {one.size for one in self.scenarios} | {one.size for one in self.tails}
        if self.growth is not None:
            used |= {self.growth.frames_size, self.growth.swaps_size}
        object.__setattr__(self, "sizes", tuple(sorted(used)))

    def seconds(self) -> float:
        """Return about how long it takes, without making the exports."""
        growth = self.growth.seconds() if self.growth else 0.0
        tails = sum(one.seconds() for one in self.tails)
        return sum(one.seconds() for one in self.scenarios) + tails + growth


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what the command line asked for."""

    sizes: tuple[int, ...] = (320, 640)
    only: tuple[str, ...] = ("blocks", "tails", "growth")
    frames_p99: int = 20_000
    quick: bool = False
    full: bool = False


def plan_of(asked: Asked) -> Plan:
    """Return the runs that were asked for."""
    blocks, frames = (2, 50) if asked.quick else (10, 200)
    scenarios: list[Scenario] = []
    for size in asked.sizes if "blocks" in asked.only else ():
        rarely = 1 if size <= 320 else 3
        alone = {ENGINE: rarely, BARE: 1, LOOP: 1, PREDICT: 1, ROBOFLOW: rarely}
        scenarios.append(Scenario(size, 1, alone, blocks, frames))
        scenarios.append(Scenario(size, 2, {BARE: 1, LOOP: 1}, blocks, frames))
    return Plan(tuple(scenarios), _tails(asked), _growth(asked))


def _tails(asked: Asked) -> tuple[Tails, ...]:
    if "tails" not in asked.only:
        return ()
    frames = 250 if asked.quick else 500
    total = 500 if asked.quick else asked.frames_p99
    # At 640 px twice 20,000 frames take more than an hour.
    sizes = [size for size in asked.sizes if size == min(asked.sizes) or asked.full]
    return tuple(Tails(size, max(1, total // frames), frames) for size in sizes)


def _growth(asked: Asked) -> Growth | None:
    if "growth" not in asked.only:
        return None
    return Growth(frames=2_000, sample_every=200, swaps=6, first_swaps=2) if asked.quick else Growth()
