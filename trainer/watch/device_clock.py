"""Time the wait for data where it hurts: on the card, which works on while the processor runs ahead.

A processor that has queued a step and waits for the next batch loses nothing as long as the card is still
busy with the one before. So a mark goes into the card's own queue when a step is queued and another when the
next batch is there; the time between the two on the card is what it stood idle for want of data.

Not confirmed on a GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from trainer.watch.timings import StepClock, StepTimes


class Mark(Protocol):
    """Be a mark in a card's queue; `torch.cuda.Event` is one."""

    def record(self) -> None:
        """Put the mark behind what is queued."""

    def query(self) -> bool:
        """Say whether the card has come past it."""

    def synchronize(self) -> None:
        """Wait until the card has come past it."""

    def elapsed_time(self, end: Mark) -> float:
        """Return the milliseconds between this mark and a later one, both passed."""


class DeviceClock:
    """Be a `StepClock` whose waits are the card's.

    Args:
        clock: the processor's clock; what a step and its wait take together is taken from it.
        mark: makes marks.
    """

    def __init__(self, clock: StepClock, mark: Callable[[], Mark]) -> None:
        self._clock = clock
        self._mark = mark
        self._asked: Mark | None = None
        self._under_way: deque[tuple[Mark, Mark]] = deque()
        self._idle_seconds = 0.0

    def ask(self) -> None:
        """Say that the loader is asked for an epoch's first batch."""
        self._under_way.clear()
        self._idle_seconds = 0.0
        self._clock.ask()
        self._asked = self._recorded()

    def got(self) -> None:
        """Say that the batch is there."""
        self._clock.got()
        if self._asked is not None:
            self._under_way.append((self._asked, self._recorded()))
        self._asked = None
        while self._under_way and self._under_way[0][1].query():
            self._count()

    def done(self, images: int) -> None:
        """Say that the step is queued, and that the next batch is asked for."""
        self._clock.done(images)
        self._asked = self._recorded()

    def total(self) -> StepTimes:
        """Return the sums since `ask`, after waiting for the card to come past the last batch."""
        while self._under_way:
            self._under_way[0][1].synchronize()
            self._count()
        told = self._clock.total()
        together = told.wait_seconds + told.step_seconds
        # The processor cannot have waited shorter than the card stood idle, but for the marks' own noise.
        wait = min(self._idle_seconds, together)
        return StepTimes(told.steps, told.images, wait, together - wait)

    def _count(self) -> None:
        asked, got = self._under_way.popleft()
        self._idle_seconds += max(asked.elapsed_time(got), 0.0) / 1000.0

    def _recorded(self) -> Mark:
        mark = self._mark()
        mark.record()
        return mark
