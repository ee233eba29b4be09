"""Say which learning rate, momentum and accumulation hold at a step; pure.

The formulas are those of ultralytics' loop (8.4.190, engine/trainer.py), with the place in the epoch counted
in images, so that they go on unbroken where the batch changes in its middle.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """Hold what rates follow from.

    `accumulation` is the number of batches to a step after the warm-up; `warmup_steps` counts batches;
    `scale` is what rollbacks left of the rate.
    """

    epochs: int
    batches: int
    batch: int
    accumulation: int
    warmup_steps: int
    final_share: float
    warmup_bias_rate: float
    warmup_momentum: float
    momentum: float
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Hold what one step uses.

    `level` is the share of a group's own rate that the epoch gives, `warm` how far the warm-up is (1: over).
    """

    level: float
    warm: float
    bias_start: float
    momentum: float
    accumulation: int

    def rate_of(self, own: float, *, bias: bool) -> float:
        """Return the rate of a group; in a warm-up biases come down from theirs, all others rise from 0."""
        start = self.bias_start if bias else 0.0
        return start + self.warm * (own * self.level - start)


def rates_at(schedule: Schedule, epoch: int, images: int) -> Rates:
    """Return what holds for the batch that begins at image `images` of an epoch, both from 0."""
    level = max(1.0 - epoch / schedule.epochs, 0.0) * (1.0 - schedule.final_share) + schedule.final_share
    level *= schedule.scale
    at = epoch * schedule.batches + images / schedule.batch
    if at >= schedule.warmup_steps:
        return Rates(level, 1.0, 0.0, schedule.momentum, schedule.accumulation)
    warm = at / schedule.warmup_steps
    momentum = schedule.warmup_momentum + warm * (schedule.momentum - schedule.warmup_momentum)
    accumulation = max(1, round(1 + warm * (schedule.accumulation - 1)))
    return Rates(level, warm, schedule.warmup_bias_rate * schedule.scale, momentum, accumulation)
