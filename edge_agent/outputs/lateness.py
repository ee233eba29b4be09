"""Remember how late the last firings were, in a ring that is never allocated anew.

>>> ring = Lateness()
>>> ring.note(2.0)
>>> ring.quantiles(0.5, 0.99)
(2.0, 2.0)
"""

from __future__ import annotations

import numpy as np

KEPT = 1024


class Lateness:
    """Hold the last firings' lateness in milliseconds; one thread notes, any thread asks."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring = np.zeros(kept, np.float32)
        self.count = 0
        """Firings noted so far."""

    def note(self, late_ms: float) -> None:
        """Remember one firing."""
        self._ring[self.count % len(self._ring)] = late_ms
        self.count += 1

    def quantiles(self, *shares: float) -> tuple[float, ...]:
        """Return quantiles of the firings that are kept, in milliseconds; nothing noted gives zeros."""
        kept = min(self.count, len(self._ring))
        if kept == 0:
            return (0.0,) * len(shares)
        return tuple(float(value) for value in np.quantile(self._ring[:kept], shares))
