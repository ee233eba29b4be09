"""Read offers that a person imagines, to see what a plan would be if they were there; pure.

T4=0.35             a card by its known name, dollars an hour
T4=0.35/0.11        with its spot price
2xA100:80=3.60      two of them, of 80 GiB each
Abacus:24           a card nobody knows, of 24 GiB, at an unknown price
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from fleet_contracts.training import GpuOffer
from flows.errors import SettingsError
from trainer.planning.cards import card_of

PROVIDER = "imagined"
_OFFER = re.compile(
    r"^(?:(?P<count>\d{1,2})x)?(?P<gpu>[A-Za-z][A-Za-z0-9 _-]*?)(?::(?P<gib>\d+(?:\.\d+)?))?"
    r"(?:=(?P<price>\d+(?:\.\d+)?)(?:/(?P<spot>\d+(?:\.\d+)?))?)?$"
)


def imagined_offers(texts: Sequence[str], now: datetime) -> tuple[GpuOffer, ...]:
    """Return the offers that texts describe.

    Raises:
        SettingsError: a text that cannot be read, or a card whose memory nobody knows.
    """
    return tuple(_offer(text, number, now) for number, text in enumerate(texts))


def _offer(text: str, number: int, now: datetime) -> GpuOffer:
    found = _OFFER.match(text.strip())
    if found is None:
        raise SettingsError(
            expected="an offer like T4=0.35, 2xA100:80=3.60 or T4=0.35/0.11", got=repr(text), where="--offer",
            now="Write [COUNTx]CARD[:GIB][=DOLLARS[/SPOT]].",
        )  # fmt: skip
    spot = float(found["spot"] or 0.0)
    return GpuOffer(
        provider=PROVIDER, offer_id=f"{number}-{found['gpu']}", gpu=found["gpu"],
        gpu_count=max(int(found["count"] or 1), 1), gpu_memory_mib=_memory(found["gpu"], found["gib"], text),
        on_demand_price=float(found["price"]) if found["price"] else None, spot_price=spot or None,
        price_source="a person", priced_at=now,
    )  # fmt: skip


def _memory(gpu: str, gib: str | None, text: str) -> int:
    if gib is not None:
        return int(float(gib) * 1024)
    card = card_of(gpu)
    if card is None:
        raise SettingsError(
            expected="a card whose memory is known", got=repr(gpu), where=f"--offer {text}",
            now=f"Say its memory in GiB, as in {gpu}:24=0.50.",
        )  # fmt: skip
    return card.memory_mib[0]
