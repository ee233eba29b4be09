"""Fix which image comes when, and how it is altered: both follow from seed, epoch and place alone.

So an epoch can be taken up in its middle, with other batches, on other devices or with other numbers of
worker processes, and what is left of it is what would have come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_MASK = (1 << 64) - 1


class Pick(NamedTuple):
    """Name an image of a dataset and the seed of its augmentation."""

    image: int
    seed: int


@dataclass(frozen=True, slots=True)
class Share:
    """Say which part of every batch a process takes; `batch` counts images over all processes."""

    batch: int
    rank: int = 0
    world: int = 1


def picks_of(images: int, *, seed: int, epoch: int, done: int, share: Share) -> Iterator[Pick]:
    """Yield what one process loads of an epoch, from image `done` of its order on.

    Processes together take the batches that one alone would. Where the rest does not divide by their number
    it is filled up with images from its beginning, so that all take equally many steps.
    """
    order = np.random.default_rng((seed & _MASK, epoch)).permutation(images)
    places = np.arange(done, images)
    places = np.resize(places, -(-len(places) // share.world) * share.world)
    for start in range(0, len(places), share.batch):
        chunk = places[start : start + share.batch]
        mine = len(chunk) // share.world
        for place in chunk[share.rank * mine : (share.rank + 1) * mine]:
            yield Pick(int(order[place]), seed_of(seed, epoch, int(place)))


def batches_of(images: int, *, done: int, share: Share) -> int:
    """Return the number of steps that are left of an epoch."""
    padded = -(-max(images - done, 0) // share.world) * share.world
    return -(-padded // share.batch)


def seed_of(seed: int, epoch: int, place: int) -> int:
    """Return 64 well mixed bits for one image (the finaliser of splitmix64 over the three numbers)."""
    bits = seed & _MASK
    for number in (epoch, place):
        bits = (bits + 0x9E3779B97F4A7C15 * (number + 1)) & _MASK
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
        bits ^= bits >> 31
    return bits
