"""Time the two halves of a training step: waiting for the loader, and the step itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Hold what the steps of a while took, in seconds; a wait runs from asking for a batch to having it."""

    steps: int = 0
    images: int = 0
    wait_seconds: float = 0.0
    step_seconds: float = 0.0

    def __add__(self, other: StepTimes) -> StepTimes:
        """Return the sums of both."""
        return StepTimes(
            self.steps + other.steps,
            self.images + other.images,
            self.wait_seconds + other.wait_seconds,
            self.step_seconds + other.step_seconds,
        )

    @property
    def wait_share(self) -> float:
        """Return the share of the time that went into waiting for data."""
        return self.wait_seconds / max(self.wait_seconds + self.step_seconds, 1e-9)

    @property
    def images_per_second(self) -> float:
        """Return how many images a second were trained on, waiting included."""
        return self.images / max(self.wait_seconds + self.step_seconds, 1e-9)


class StepClock:
    """Add up the steps of an epoch.

    The order of calls: `ask`, then for every batch `got` and `done`. `done` asks for the next batch.

    Args:
        now: a clock in seconds; a test may turn it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._asked: float | None = None
        self._got: float | None = None
        self._total = StepTimes()

    def ask(self) -> None:
        """Say that the loader is asked for an epoch's first batch; what was counted before is forgotten."""
        self._total = StepTimes()
        self._asked, self._got = self._now(), None

    def got(self) -> None:
        """Say that the batch is there."""
        self._got = self._now()
        if self._asked is not None:
            self._total += StepTimes(wait_seconds=self._got - self._asked)

    def done(self, images: int) -> None:
        """Say that the step on so many images is done, and that the next batch is asked for."""
        self._asked = self._now()
        if self._got is not None:
            self._total += StepTimes(1, images, step_seconds=self._asked - self._got)
        self._got = None

    def total(self) -> StepTimes:
        """Return the sums since `ask`."""
        return self._total
