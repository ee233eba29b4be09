"""Ask again what a service that was just killed did not answer; its supervisor brings it back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from flows.errors import DatabaseAway, StoreAway

T = TypeVar("T")
PATIENCE = 90.0  # seconds
_REST = 1.0


def patiently(work: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Do something that may be done twice, again and again while store or database are away.

    Raises:
        StoreAway, DatabaseAway: they were away for longer than `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except (StoreAway, DatabaseAway):
            if time.monotonic() > deadline:
                raise
        time.sleep(_REST)
