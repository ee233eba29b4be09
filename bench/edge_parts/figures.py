"""Turn raw blocks into the figures that have targets, and say whether contenders found the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.edge_parts.children import Block
from bench.edge_parts.intervals import (
    Interval,
    Target,
    growth,
    median_interval,
    overhead_ratio,
    share_interval,
    tail_ratio,
)
from bench.edge_parts.plan import BARE, LOOP, PREDICT
from bench.edge_parts.rounds import Beside, Measured, Memory

SAME_IOU = 0.9
TARGETS = {
    "edge.share_320": Target("at least", 0.97),
    "edge.share_640": Target("at least", 0.985),
    "edge.share_640_2cores": Target("at least", 0.99),
    "edge.overhead_vs_ultralytics_320": Target("at most", 0.25),
    "edge.overhead_vs_ultralytics_640": Target("at most", 0.25),
    "edge.p99_busy_ratio": Target("at most", 1.15),
    "edge.rss_growth_frames": Target("at most", 0.02),
    "edge.rss_growth_swaps": Target("at most", 0.02),
}
Found = Sequence[Sequence[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Say how far two contenders found the same; pixels of the 1080p frame."""

    boxes: int
    alone: int
    worst_px: float
    worst_score: float


def scenario_figures(measured: Measured) -> dict[str, Interval]:
    """Return shares and overheads of one scenario, by figure name."""
    scenario = measured.scenario
    suffix = f"{scenario.size}" + ("" if scenario.cores == 1 else f"_{scenario.cores}cores")
    bare, loop = measured.paired(BARE, LOOP)
    told = {
        f"edge.share_{suffix}": share_interval(bare, loop),
        f"edge.overhead_ms_{suffix}": median_interval([b - a for a, b in zip(bare, loop, strict=True)]),
    }
    if measured.blocks(PREDICT):
        bare, loop, predict = measured.paired(BARE, LOOP, PREDICT)
        told[f"edge.overhead_vs_ultralytics_{suffix}"] = overhead_ratio(bare, loop, predict)
        told[f"edge.share_ultralytics_{suffix}"] = share_interval(bare, predict)
    return told


def tail_figures(beside: Beside, *, first: bool) -> dict[str, Interval]:
    """Return the ratio of the busy to the idle 99th percentile; the first size's has the plain name."""
    name = "edge.p99_busy_ratio" if first else f"edge.p99_busy_ratio_{beside.tails.size}"
    return {name: tail_ratio([b.ms for b in beside.idle], [b.ms for b in beside.busy], 0.99)}


def memory_figures(memory: Memory) -> dict[str, Interval]:
    """Return by what share resident memory grew."""
    told = {}
    for name, samples in (("frames", memory.by_frames), ("swaps", memory.by_swaps)):
        grown = growth(samples)
        told[f"edge.rss_growth_{name}"] = Interval(grown, grown, grown, 1.0)
    return told


def quantiles_ms(blocks: Sequence[Block], qs: Sequence[float]) -> list[float]:
    """Return quantiles of all frames of some blocks."""
    return [float(q) for q in np.quantile(np.concatenate([block.ms for block in blocks]), qs)]


def agreement(ours: Found, theirs: Found) -> Agreement:
    """Pair boxes of the same class frame by frame, the most overlapping first."""
    boxes = alone = 0
    worst_px = worst_score = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        pairs = list(_pairs(np.asarray(mine, float).reshape(-1, 6), np.asarray(other, float).reshape(-1, 6)))
        boxes += len(mine)
        alone += len(mine) + len(other) - 2 * len(pairs)
        for one, two in pairs:
            worst_px = max(worst_px, float(np.abs(one[:4] - two[:4]).max()))
            worst_score = max(worst_score, float(abs(one[4] - two[4])))
    return Agreement(boxes, alone, worst_px, worst_score)


def _pairs(
    mine: npt.NDArray[np.float64], other: npt.NDArray[np.float64]
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    if len(mine) == 0 or len(other) == 0:
        return
    overlap = _iou(mine, other) * (mine[:, None, 5] == other[None, :, 5])
    while overlap.max() >= SAME_IOU:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        yield mine[row], other[column]
        overlap[row, :] = overlap[:, column] = 0.0


def _iou(mine: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low = np.maximum(mine[:, None, :2], other[None, :, :2])
    high = np.minimum(mine[:, None, 2:4], other[None, :, 2:4])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [(boxes[:, 2:4] - boxes[:, :2]).prod(axis=1) for boxes in (mine, other)]
    iou: npt.NDArray[np.float64] = shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)
    return iou
