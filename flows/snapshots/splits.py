"""Choose which samples a snapshot holds and on which side of which split each group lies. Pure.

* A group never spans two splits; one golden member makes the whole group golden.
* What was trained on once is never judged on: a group keeps the split of earlier snapshots, and of two
  that merge, training wins over validation.
* New groups are shared out by the hash of their eldest member, per rarest class, so that a rare class gets
  its validation images too. The same data always gives the same splits.
* Imported data is for training and the golden set; it is validated on only where nothing else is there.
* Only verified labels are validated on (law 4); unverified ones are capped in number.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "val", "golden"]
MAX_UNVERIFIED_SHARE = 0.2
"""Unverified members of a snapshot, as a share of its verified ones."""
MIN_GROUPS_FOR_VAL = 4
"""Groups of a class from which on one of them is for validation."""
NOTHING = -1
"""Stands for images without any box where classes are counted."""


@dataclass(frozen=True, slots=True)
class SplitItem:
    """Hold what the choice needs to know of one labelled sample; `classes` are the class ids of its boxes."""

    sample_id: str
    group_id: str
    classes: frozenset[int]
    verified: bool
    imported: bool
    pinned: Split | None = None
    before: Split | None = None
    """Its split in an earlier snapshot."""


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """Hold the shares of groups for validation and golden set, and how many imported samples are replayed."""

    val_share: float
    golden_share: float
    replay_limit: int
    salt: str


def choose_members(items: Sequence[SplitItem], policy: SplitPolicy) -> dict[str, Split]:
    """Return the split of every sample the snapshot holds; samples left out are not in the result."""
    groups = _groups(items)
    splits = {group_id: _settled(members) for group_id, members in groups.items()}
    open_groups = {key: groups[key] for key, split in splits.items() if split is None}
    mined = {key: members for key, members in open_groups.items() if not _is_imported(members)}
    pool = mined if mined or "val" in splits.values() else open_groups
    shares: tuple[tuple[Split, float], ...] = (("golden", policy.golden_share), ("val", policy.val_share))
    for split, share in shares:
        still_open = {key: members for key, members in pool.items() if splits[key] is None}
        settled = {key: kept for key, kept in splits.items() if kept and not _is_imported(groups[key])}
        have = [groups[key] for key, kept in settled.items() if kept == split]
        others = [groups[key] for key, kept in settled.items() if kept != split]
        sharing = _Sharing(share, f"{split}:{policy.salt}", have, others)
        splits.update((key, split) for key in _share_out(still_open, sharing))
    if "val" not in splits.values():
        splits.update((key, "val") for key in _one_for_val(pool, splits, policy.salt))
    chosen: dict[str, Split] = {}
    for group_id, members in groups.items():
        group_split: Split = splits[group_id] or "train"
        chosen.update(
            {one.sample_id: group_split for one in members if group_split == "train" or one.verified}
        )
    return _capped(items, chosen, policy)


@dataclass(frozen=True, slots=True)
class _Sharing:
    """Say what share of all groups a split should have; `have` are in it already, `others` in another."""

    share: float
    salt: str
    have: Sequence[Sequence[SplitItem]]
    others: Sequence[Sequence[SplitItem]]


def _groups(items: Iterable[SplitItem]) -> dict[str, list[SplitItem]]:
    groups: dict[str, list[SplitItem]] = defaultdict(list)
    for item in sorted(items, key=lambda one: one.sample_id):
        groups[item.group_id].append(item)
    return dict(groups)


def _settled(members: Sequence[SplitItem]) -> Split | None:
    if any("golden" in (one.pinned, one.before) for one in members):
        return "golden"
    if any(one.before == "train" for one in members):
        return "train"
    if any(one.before == "val" for one in members):
        return "val"
    pins = {one.pinned for one in members}
    if "val" in pins:
        return "val"
    if not any(one.verified for one in members):
        return "train"
    return None


def _is_imported(members: Sequence[SplitItem]) -> bool:
    return all(one.imported for one in members)


def _share_out(pool: Mapping[str, Sequence[SplitItem]], sharing: _Sharing) -> list[str]:
    """Choose groups so that the split has its share of each class, counted by the rarest class of a group."""
    if sharing.share <= 0:
        return []
    everything = [*pool.values(), *sharing.have, *sharing.others]
    counts = Counter(kind for members in everything for kind in _kinds(members))
    totals = Counter(_rarest(members, counts) for members in everything)
    have = Counter(_rarest(members, counts) for members in sharing.have)
    strata: dict[int, list[str]] = defaultdict(list)
    for group_id, members in pool.items():
        strata[_rarest(members, counts)].append(group_id)
    chosen: list[str] = []
    for kind, group_ids in strata.items():
        least = int(totals[kind] >= MIN_GROUPS_FOR_VAL)
        wanted = max(_rounded(sharing.share * totals[kind]), least) - have[kind]
        ranked = sorted(group_ids, key=lambda key: _rank(sharing.salt, pool[key]))
        chosen.extend(ranked[: max(0, wanted)])
    return chosen


def _one_for_val(
    pool: Mapping[str, Sequence[SplitItem]], splits: Mapping[str, Split | None], salt: str
) -> list[str]:
    # Where every class is too rare for a share of its own, one group of all is better than none.
    still_open = [key for key in pool if splits[key] is None]
    return sorted(still_open, key=lambda key: _rank(f"val:{salt}", pool[key]))[: int(len(still_open) > 1)]


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def _kinds(members: Sequence[SplitItem]) -> frozenset[int]:
    return frozenset().union(*(one.classes for one in members)) or frozenset({NOTHING})


def _rarest(members: Sequence[SplitItem], counts: Counter[int]) -> int:
    return min(_kinds(members), key=lambda kind: (counts[kind], kind))


def _rank(salt: str, members: Sequence[SplitItem]) -> bytes:
    # By one member, not by the group's id: a group that gains a member keeps its place more often than not.
    return _hash(salt, min(one.sample_id for one in members))


def _hash(salt: str, sample_id: str) -> bytes:
    return hashlib.sha256(f"{salt}:{sample_id}".encode()).digest()


def _capped(items: Sequence[SplitItem], chosen: dict[str, Split], policy: SplitPolicy) -> dict[str, Split]:
    training = [one for one in items if chosen.get(one.sample_id) == "train"]
    replayed = _replayed([one for one in training if one.imported and one.verified], policy)
    verified = sum(one.verified for one in items if one.sample_id in chosen)
    unverified = sorted(
        (one.sample_id for one in training if not one.verified),
        key=lambda sample_id: _hash(f"unverified:{policy.salt}", sample_id),
    )
    kept_unverified = set(unverified[: int(verified * MAX_UNVERIFIED_SHARE)])
    dropped = {
        one.sample_id
        for one in training
        if (one.verified and one.imported and one.sample_id not in replayed)
        or (not one.verified and one.sample_id not in kept_unverified)
    }
    return {sample_id: split for sample_id, split in chosen.items() if sample_id not in dropped}


def _replayed(imported: Sequence[SplitItem], policy: SplitPolicy) -> frozenset[str]:
    """Choose which old samples are replayed: in turns over the classes, each in the order of hashes."""
    queues: dict[int, list[str]] = defaultdict(list)
    for item in sorted(imported, key=lambda one: _hash(f"replay:{policy.salt}", one.sample_id)):
        for kind in item.classes or {NOTHING}:
            queues[kind].append(item.sample_id)
    chosen: set[str] = set()
    limit = min(policy.replay_limit, len(imported))
    while len(chosen) < limit:
        for kind in sorted(queues):
            queue = queues[kind]
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < limit:
                chosen.add(queue.pop(0))
    return frozenset(chosen)
