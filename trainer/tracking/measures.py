"""Name what is tracked of an epoch: pure, the same names from the trainer and from the cloud side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fleet_contracts.training import Tracking, TrainPlan

OURS = "whetstone/"
"""Begins the name of every metric that we write; what ultralytics' callback writes has other names."""
RUN_TAG = "whetstone.run_id"
_PLAIN = ("seconds", "images_per_second", "learning_rate", "data_wait_share", "utilisation", "power_watts",
          "image_size", "batch", "accumulation", "workers")  # fmt: skip
_MIB = 2.0**20


def measures_of(epoch: Mapping[str, Any]) -> dict[str, float]:
    """Return our metrics of one epoch, from its event's data or its entry in the record.

    Losses keep the names ultralytics gave them, below `train/` and `val/`; memory is in MiB. What was not
    measured is left out, and so is what is no number (a lost epoch is told by its rollback).
    """
    found = {OURS + name: epoch[name] for name in _PLAIN if epoch.get(name)}
    peak = epoch.get("peak_memory_bytes") or 0
    if peak:
        found[OURS + "vram_seen_mib"] = peak / _MIB
    for group, key in (("train", "losses"), ("val", "val")):
        losses = epoch.get(key)
        if isinstance(losses, Mapping):
            found |= {f"{OURS}{group}/{last_of(name)}": value for name, value in losses.items()}
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def of_stage(plan: TrainPlan, stage: int) -> Tracking | None:
    """Return where a stage of a plan is tracked: under the run's name, its epochs after those before it."""
    if plan.tracking is None:
        return None
    before = sum(one.epochs for one in plan.stages[:stage])
    return plan.tracking.model_copy(update={"run_id": plan.run_id, "first_epoch": before})


def last_of(name: str) -> str:
    """Return a loss's own name: `val/box` and `box` are one."""
    return str(name).rsplit("/", 1)[-1]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
