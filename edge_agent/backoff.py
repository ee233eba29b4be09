"""Wait longer after each failure, with jitter, so that a fleet does not come back all at once."""

from __future__ import annotations

import random


class Backoff:
    """Give waits that double from `first_s` to `limit_s`, each spread over its upper half."""

    def __init__(self, first_s: float, limit_s: float, rng: random.Random | None = None) -> None:
        self._first_s = first_s
        self._limit_s = max(first_s, limit_s)
        self._rng = rng
        self._failures = 0

    def next_s(self) -> float:
        """Count a failure and return how long to wait, in seconds."""
        wait = wait_after(self._failures, self._first_s, self._limit_s)
        self._failures += 1
        return jittered(wait, self._rng)

    def reset(self) -> None:
        """Begin again from the first wait, after a success."""
        self._failures = 0


def wait_after(failures: int, first_s: float, limit_s: float) -> float:
    """Return the wait after so many failures, without jitter."""
    return min(limit_s, first_s * 2.0 ** min(failures, 30))


def jittered(wait_s: float, rng: random.Random | None = None) -> float:
    """Spread a wait over its upper half."""
    draw = rng.random() if rng is not None else random.random()  # noqa: S311 - jitter, no secret
    return wait_s * (0.5 + draw / 2)
