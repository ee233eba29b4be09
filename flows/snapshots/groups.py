"""Group samples that must stay on one side of a split: near-duplicates, and bursts of one scene. Pure.

A group that swallowed half the data would leave nothing to validate on, so two limits hold:

* Parts of one product on one fixture all look nearly alike; there a hash says little. A group of more than
  `MAX_GROUP` samples is therefore taken apart at ever stricter thresholds of looks.
* On a line that never stops every frame follows another within a second. A chain of frames longer than
  `MAX_BURST` is cut at its largest gap until its pieces are short enough.

Frames of one part (same part id, same device) and frames with equal hashes stay together whatever else holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fleet_contracts import sha256_of
from flows.looks import bits_of

NEAR = 20
"""Bits (of 256) that near-duplicates differ in at most: a shift by 4 px of 640 gives up to 20."""
SAME_SCENE = 64
"""Bits that frames of one burst may differ in; unrelated images differ in about 128."""
MAX_GROUP = 16
BURST_SECONDS = 1.0
MAX_BURST = 12

Chain = list[tuple[datetime, int]]


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one sighting of a sample."""

    device_id: str
    camera: str
    captured_at: datetime
    part_id: str


@dataclass(frozen=True, slots=True)
class GroupItem:
    """Hold what grouping needs to know of one sample; `timed` is false where times mean nothing (imports)."""

    sample_id: str
    look: str
    seen: tuple[Seen, ...]
    timed: bool = True


def group_samples(items: Sequence[GroupItem]) -> dict[str, str]:
    """Return the group id of every sample.

    A group's id is the hash of its members' ids, so it says which samples were together.
    """
    rows = sorted(items, key=lambda item: item.sample_id)
    evidence = _Evidence(rows, _distances([row.look for row in rows]))
    names: dict[str, str] = {}
    for members in _split(evidence, list(range(len(rows))), strictness=0):
        ids = [rows[index].sample_id for index in members]
        name = sha256_of("\n".join(ids).encode())[:32]
        names.update(dict.fromkeys(ids, name))
    return names


def _distances(looks: list[str]) -> NDArray[np.int16]:
    bits = bits_of(looks).astype(np.float32)
    ones = bits.sum(axis=1)
    return np.asarray(ones[:, None] + ones[None, :] - 2 * (bits @ bits.T), dtype=np.int16)


@dataclass(frozen=True, slots=True)
class _Evidence:
    rows: Sequence[GroupItem]
    distances: NDArray[np.int16]


def _split(evidence: _Evidence, members: list[int], *, strictness: int) -> list[list[int]]:
    near, same_scene = NEAR >> strictness, SAME_SCENE >> strictness
    forest = _Forest(members)
    alike = evidence.distances[np.ix_(members, members)] <= near
    for first, second in zip(*np.nonzero(np.triu(alike, 1)), strict=True):
        forest.join(members[int(first)], members[int(second)])
    for part in _parts(evidence.rows, members):
        forest.join_all(part)
    if near > 0:
        for burst in _bursts(evidence, members, same_scene):
            forest.join_all(burst)
    found: list[list[int]] = []
    for tree in forest.trees():
        too_large = len(tree) > MAX_GROUP and near > 0
        found.extend(_split(evidence, tree, strictness=strictness + 1) if too_large else [tree])
    return found


def _parts(rows: Sequence[GroupItem], members: list[int]) -> Iterable[list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index in members:
        for key in {(seen.device_id, seen.part_id) for seen in rows[index].seen}:
            found[key].append(index)
    return found.values()


def _bursts(evidence: _Evidence, members: list[int], same_scene: int) -> Iterable[list[int]]:
    cameras: dict[tuple[str, str], Chain] = defaultdict(list)
    for index in members:
        if evidence.rows[index].timed:
            for seen in evidence.rows[index].seen:
                cameras[seen.device_id, seen.camera].append((seen.captured_at, index))
    for frames in cameras.values():
        for chain in _chains(sorted(frames), evidence.distances, same_scene):
            yield from ([index for _, index in piece] for piece in _cut_long(chain))


def _chains(frames: Chain, distances: NDArray[np.int16], same_scene: int) -> Iterable[Chain]:
    chain: Chain = []
    for moment, index in frames:
        if chain:
            near = (moment - chain[-1][0]).total_seconds() <= BURST_SECONDS
            if not (near and distances[chain[-1][1], index] <= same_scene):
                yield chain
                chain = []
        chain.append((moment, index))
    if chain:
        yield chain


def _cut_long(chain: Chain) -> Iterable[Chain]:
    if len(chain) <= MAX_BURST:
        return [chain]
    gaps = [(chain[at][0] - chain[at - 1][0], -abs(at - len(chain) // 2)) for at in range(1, len(chain))]
    # Of equal gaps the one nearest the middle, so that an even chain falls into halves.
    cut = 1 + max(range(len(gaps)), key=gaps.__getitem__)
    return [*_cut_long(chain[:cut]), *_cut_long(chain[cut:])]


class _Forest:
    """Keep sets that are joined pair by pair (union-find)."""

    def __init__(self, items: Iterable[int]) -> None:
        self._parent = {item: item for item in items}

    def join(self, first: int, second: int) -> None:
        """Put two items, and all they are joined with, into one set."""
        low, high = sorted((self._root(first), self._root(second)))
        self._parent[high] = low

    def join_all(self, items: Sequence[int]) -> None:
        """Put all items into one set."""
        for item in items[1:]:
            self.join(items[0], item)

    def trees(self) -> list[list[int]]:
        """Return the sets, each in ascending order."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in self._parent:
            found[self._root(item)].append(item)
        return list(found.values())

    def _root(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item
