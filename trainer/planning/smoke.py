"""Choose the few images of a smoke test; pure."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_contracts.training import SnapshotMember


def few_members(members: Sequence[SnapshotMember], most: int) -> tuple[SnapshotMember, ...]:
    """Return at most `most` members to train on and as many to validate on, 0 for all.

    They are spread evenly over the snapshot, whose order is that of hashes, so a second attempt takes the
    same ones. Images with boxes go first: one without any tries half of the loss only.
    """
    if most == 0:
        return tuple(members)
    chosen = {
        one.sample_id
        for split in ("train", "val")
        for one in _spread([member for member in members if member.split == split], most)
    }
    return tuple(one for one in members if one.sample_id in chosen)


def _spread(members: list[SnapshotMember], most: int) -> list[SnapshotMember]:
    boxed = [one for one in members if one.boxes]
    if len(boxed) < most:
        return [*boxed, *[one for one in members if not one.boxes][: most - len(boxed)]]
    return [boxed[number * len(boxed) // most] for number in range(most)]
