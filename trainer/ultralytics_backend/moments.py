"""Keep what training is doing, so that whoever reports a death can say when it came.

The trainer tells every moment as it begins (`on_moment`). A simulated card listens too: it says at which of
them memory runs out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MOMENTS = (
    "start", "loader", "forward", "loss", "backward", "optimizer", "ema", "validation", "checkpoint",
    "export",
)  # fmt: skip


class Moments:
    """Hold where training is: `moment` is one of `MOMENTS`, `epoch` and `step` count from 1.

    One is made before anything large is, so that it is there when memory is not. `watcher` is told about
    every moment as it begins, with the trainer, and may raise.
    """

    def __init__(self) -> None:
        self.moment = "start"
        self.epoch = 0
        self.step = 0
        self.watcher: Callable[[Moments, Any], None] | None = None

    def __call__(self, trainer: Any, moment: str) -> None:
        """Take down what the trainer begins now; waiting for a batch belongs to that batch's step."""
        self.moment = moment
        self.epoch = trainer.epoch + 1
        self.step = trainer.place.step + (moment == "loader")
        if self.watcher is not None:
            self.watcher(self, trainer)
