"""Keep the marks of one training: ends of epochs, waits for data, and what is not counted. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Clock:
    """Add up what ultralytics' callbacks mark; times are seconds of one clock.

    A wait for data runs from the end of a batch to the start of the next, or from the start of an epoch to
    its first batch: in between stands nothing but the loader.
    """

    epoch_ends: list[float] = field(default_factory=list)
    waited: float = 0.0
    worked: float = 0.0
    uncounted: float = 0.0
    _since: float | None = None
    _batch: float = 0.0
    _aside: float = 0.0
    _depth: int = 0

    def epoch_started(self, now: float) -> None:
        """Begin to wait for the first batch."""
        self._since = now

    def batch_started(self, now: float) -> None:
        """End the wait."""
        if self._since is not None:
            self.waited += now - self._since
        self._batch = now

    def batch_ended(self, now: float) -> None:
        """Begin to wait for the next batch."""
        self.worked += now - self._batch
        self._since = now

    def epoch_saved(self, now: float) -> None:
        """Mark that an epoch is done and kept, validation at its end left out."""
        self._since = None
        self.epoch_ends.append(now - self.uncounted)

    def aside_started(self, now: float) -> None:
        """Begin what is not counted; one within another is one."""
        if self._depth == 0:
            self._aside = now
        self._depth += 1

    def aside_ended(self, now: float) -> None:
        """End what is not counted."""
        self._depth -= 1
        if self._depth == 0:
            self.uncounted += now - self._aside

    @property
    def wait_share(self) -> float:
        """Return the share of the steps' time that was waiting for data."""
        whole = self.waited + self.worked
        return self.waited / whole if whole else 0.0


def steady_seconds(epoch_ends: list[float]) -> float:
    """Return the time from the end of the first epoch to that of the last: no start-up, every checkpoint.

    Raises:
        ValueError: fewer than two epochs.
    """
    if len(epoch_ends) < 2:
        raise ValueError(f"expected at least two epochs, got {len(epoch_ends)}")
    return epoch_ends[-1] - epoch_ends[0]
