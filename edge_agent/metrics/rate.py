"""Turn a count that only grows into a rate over the last seconds; pure.

>>> meter = RateMeter(span_s=10.0)
>>> for second in range(21):
...     meter.sample(float(second), 30 * second)
>>> meter.per_second()
30.0
"""

from __future__ import annotations

from collections import deque


class RateMeter:
    """Remember samples of a count over a span of seconds."""

    def __init__(self, span_s: float = 10.0) -> None:
        self._span_s = span_s
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, now_mono: float, count: int) -> None:
        """Add the count at a moment; one that has shrunk begins anew."""
        if self._samples and count < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now_mono, count))
        # One sample older than the span stays, so that the span is covered whole.
        while len(self._samples) > 2 and self._samples[1][0] <= now_mono - self._span_s:
            self._samples.popleft()

    def per_second(self) -> float:
        """Return the rate between the oldest and the newest sample, 0.0 while there are fewer than two."""
        if len(self._samples) < 2:
            return 0.0
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return round((last - first) / (ended - began), 3) if ended > began else 0.0
