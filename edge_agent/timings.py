"""Remember how long each stage of the last frames took; written by the loop without a lock.

Kept for the last thousand frames, so that what is shown is how the box fares now.

    >>> times = StageTimes()
    >>> times.note("engine", 12.5)
    >>> times.quantiles("engine", (0.5, 0.99))
    (12.5, 12.5)
    >>> times.quantiles("mine", (0.5,))
    (0.0,)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

Stage = Literal["wait", "prepare", "engine", "decode", "decide", "mine", "total"]
"""`wait` for a frame; `prepare` the canvas, on another thread where frames overlap; `total` from the frame at
hand to the end of its turn."""
STAGES: tuple[Stage, ...] = get_args(Stage)
KEPT = 1024
"""Frames that are remembered."""


class StageTimes:
    """Hold the times of the last frames in rings made once; one thread writes, others may read.

    A reader may see a frame half written; of statistics over a thousand frames that is no matter.
    """

    def __init__(self) -> None:
        self._rings = {stage: np.zeros(KEPT, np.float32) for stage in STAGES}
        self._counts = dict.fromkeys(STAGES, 0)

    @property
    def count(self) -> int:
        """Return how many frames were timed since the start."""
        return self._counts["total"]

    def note(self, stage: Stage, ms: float) -> None:
        """Remember the time of one frame, in milliseconds."""
        count = self._counts[stage]
        self._rings[stage][count % KEPT] = ms
        self._counts[stage] = count + 1

    def quantiles(self, stage: Stage, qs: Sequence[float]) -> tuple[float, ...]:
        """Return quantiles of the last frames' times in milliseconds; zeros before the first."""
        known = self._rings[stage][: min(self._counts[stage], KEPT)]
        if known.size == 0:
            return (0.0,) * len(qs)
        return tuple(float(value) for value in np.quantile(known, qs))
