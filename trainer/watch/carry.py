"""Carry over to later stages what the watch found for the machine: stages differ in size, not in cores."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_contracts.training import RunEvent


def workers_after(events: Iterable[RunEvent], stage: int, planned: int) -> int:
    """Return the loader processes for a stage: those the last cure of an earlier one left, or the plan's.

    The image cache is not carried over: what fits in memory at one image size may not at the next.

    Args:
        events: the record's `watch` events, oldest first.
        stage: the stage about to begin.
        planned: what the plan says.
    """
    workers = planned
    for event in events:
        earlier, cure = event.data.get("stage"), event.data.get("cure")
        if not isinstance(earlier, int) or earlier >= stage or not isinstance(cure, dict):
            continue
        change = cure.get("workers")
        if isinstance(change, list) and len(change) == 2 and isinstance(change[1], int):
            workers = change[1]
    return workers
