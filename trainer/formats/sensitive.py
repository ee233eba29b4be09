"""Search the blocks of a network that int8 hurts most and leave them in float.

(1) Begin with everything quantised but the convolutions that write the outputs.
(2) Try each block alone in float, those with the noisiest tensors first, as long as there is time.
(3) Keep them in the order of what they gain for what they cost, each only if it helps beside those before.

The search ends when the loss is small, the kept share of multiplications is large, or time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.formats.graphs import Block

ERROR_ENOUGH = 0.02
"""Disagreement with the float file below which nothing more is searched."""
MOST_KEPT_SHARE = 0.35
"""Of all multiplications; beyond it int8 saves too little to be worth its errors."""
_LEAST_GAIN = 0.03
"""Of the error, relative, that a kept block must take away."""
_RANKING_TIME = 0.7
"""Of the time left, for trying blocks alone."""
_COST_FLOOR = 0.01
"""Share of multiplications added to every block's: a small block still costs two conversions."""


@dataclass(frozen=True, slots=True)
class Found:
    """Hold the blocks to keep in float, and the error before and after."""

    kept: tuple[Block, ...]
    error_before: float
    error: float
    tried: int
    finished: bool
    """Whether every block could be tried in the time there was."""


def search(
    blocks: Sequence[Block],
    error_of: Callable[[Sequence[Block]], float],
    until: float,
    told: Callable[[str], None] = lambda _: None,
) -> Found:
    """Return the blocks to keep.

    Args:
        blocks: candidates, the most suspicious first.
        error_of: error of the model that keeps these blocks in float; slow.
        until: `time.monotonic()` at which to stop trying.
        told: hears how far it is.
    """
    # (1)
    before = error_of(())
    told(f"error {before:.4f} with every block in int8")
    if before <= ERROR_ENOUGH:
        return Found((), before, before, 0, finished=True)
    # (2)
    now = time.monotonic()
    ranking_until = now + _RANKING_TIME * max(until - now, 0.0)
    alone: list[tuple[float, Block]] = []
    for block in blocks:
        if time.monotonic() > ranking_until:
            break
        alone.append((error_of((block,)), block))
    told(f"{len(alone)} of {len(blocks)} blocks tried alone")
    # (3)
    kept, error = _greedy(alone, before, error_of, until)
    told(f"error {error:.4f} with {len(kept)} blocks in float")
    return Found(kept, before, error, len(alone), finished=len(alone) == len(blocks))


def _greedy(
    alone: Sequence[tuple[float, Block]],
    before: float,
    error_of: Callable[[Sequence[Block]], float],
    until: float,
) -> tuple[tuple[Block, ...], float]:
    gains = [(before - error, block) for error, block in alone if error < before]
    ranked = sorted(gains, key=lambda one: -one[0] / (one[1].share + _COST_FLOOR))
    kept: tuple[Block, ...] = ()
    error = before
    for _, block in ranked:
        if error <= ERROR_ENOUGH or time.monotonic() > until:
            break
        if sum(one.share for one in kept) + block.share > MOST_KEPT_SHARE:
            continue
        tried = error_of((*kept, block))
        if tried < error * (1.0 - _LEAST_GAIN):
            kept, error = (*kept, block), tried
    return kept, error
