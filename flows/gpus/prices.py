"""Price what is rented where no API names a price: as the settings do, in the seller's money."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from pathlib import Path

from fleet_contracts import utc_now
from flows.gpus.settings import ForeignMoney
from flows.settings import FILE_NAME
from trainer.planning.cards import card_of


def dollars(amount: float, money: ForeignMoney) -> float:
    """Return an amount of the seller's money in dollars.

    >>> dollars(14.0, ForeignMoney(per_dollar=7.0))
    2.0
    """
    return amount / money.per_dollar


def gpu_of(name: str) -> str:
    """Return the name the planner knows a card by; one it does not know stays as it is.

    >>> gpu_of("NVIDIA A10"), gpu_of("GP-Pnt1")
    ('A10', 'GP-Pnt1')
    """
    card = card_of(name)
    return name if card is None else card.name


def priced_at(folder: Path) -> datetime:
    """Return when the prices were written down at the latest: the settings file's own age."""
    try:
        return datetime.fromtimestamp((folder / FILE_NAME).stat().st_mtime, tz=timezone.utc)
    except OSError:
        return utc_now()


def whole(time: timedelta, unit: timedelta) -> int:
    """Return a time in whole units, rounded up, at least one.

    >>> whole(timedelta(minutes=90), timedelta(hours=1)), whole(timedelta(-1), timedelta(minutes=1))
    (2, 1)
    """
    return max(math.ceil(time / unit), 1)
