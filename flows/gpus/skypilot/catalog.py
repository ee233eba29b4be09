"""Turn the price list of SkyPilot's server into offers, and an offer's id back into what to rent; pure.

The server answers with rows of ten values by GPU: cloud, instance type, GPU, count, cores, GPU memory (GiB),
memory (GiB), price, spot price, region; the price is that of the region's cheapest zone. A price of 0 or NaN
is one that is not known: some clouds list their spot prices so.

How old a price is the server does not tell. It fetches the lists of some clouds anew after 7 or 8 hours, and
those of all others once and never again: to renew one, delete `~/.sky/catalogs/v8/<cloud>` on the server.

    >>> Wanted.of("lambda/us-east-1/gpu_1x_a10/A10:1").instance
    'gpu_1x_a10'
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleet_contracts.training import GpuOffer
from flows.gpus.errors import LaunchRefused, ProviderAway
from flows.gpus.settings import SkypilotSection
from trainer.planning.cards import card_of

UNPRICED = frozenset({"kubernetes", "ssh", "slurm"})
"""Clouds of machines that are somebody's own: SkyPilot knows no price of theirs."""
RENEWED = frozenset({
    "aws", "azure", "cudo", "gcp", "lambda", "mithril", "nebius", "runpod", "seeweb", "verda",
})  # fmt: skip
"""Clouds whose lists SkyPilot 0.14.1 fetches anew by itself."""
RENEWED_AFTER = timedelta(hours=8)
_PARTS = 4
_COLUMNS = 10
_SIZE = re.compile(r"(\d{2,3})gb", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what an offer is to SkyPilot; `instance` is "" where it chooses the machine around a GPU."""

    cloud: str
    region: str
    instance: str
    accelerators: str

    @property
    def offer_id(self) -> str:
        """Return the offer's id, which holds all of it."""
        return "/".join((self.cloud, self.region, self.instance, self.accelerators))

    @classmethod
    def of(cls, offer_id: str) -> Wanted:
        """Return what an offer's id says.

        Raises:
            LaunchRefused: it is not an id of ours.
        """
        parts = offer_id.split("/")
        if len(parts) != _PARTS:
            raise LaunchRefused(
                expected="cloud/region/instance/GPU:count", got=offer_id, where="the offer's id",
                now="Another offer is tried.",
            )  # fmt: skip
        return cls(*parts)


def offers_of(rows: Any, provider: str, section: SkypilotSection, at: datetime) -> tuple[GpuOffer, ...]:
    """Return a price list as offers, those the settings ask for; of two under one id, the cheaper.

    Raises:
        ProviderAway: it is no price list.
    """
    if not isinstance(rows, dict):
        raise ProviderAway(expected="a price list", got=type(rows).__name__, where=provider)
    found: dict[str, GpuOffer] = {}
    for row in _rows(rows.values()):
        offer = _offer_of(row, provider, at)
        if offer is not None and _is_asked_for(offer, section):
            other = found.get(offer.offer_id)
            found[offer.offer_id] = offer if other is None else min(other, offer, key=_price)
    return tuple(found.values())


def clouds_of(enabled: Any, section: SkypilotSection) -> list[str]:
    """Return which of the clouds the server has an account with may be rented from."""
    names = [str(one).lower() for one in enabled] if isinstance(enabled, list) else []
    wanted = {one.lower() for one in section.clouds} or set(names)
    return [one for one in names if one in wanted and one not in UNPRICED]


def _rows(lists: Iterable[Any]) -> Iterator[list[Any]]:
    for rows in lists:
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, list) and len(row) >= _COLUMNS:
                yield row


def _offer_of(row: list[Any], provider: str, at: datetime) -> GpuOffer | None:
    """Return one row as an offer; None for a share of a GPU, or names that do not fit into an id."""
    cloud, instance, gpu, count, cores, gpu_memory, memory, price, spot, region = row[:_COLUMNS]
    if not isinstance(gpu, str) or not isinstance(region, str) or not _number(count) or count != int(count):
        return None
    fixed = isinstance(instance, str) and not instance.startswith("(")
    wanted = Wanted(str(cloud).lower(), region, instance if fixed else "", f"{gpu}:{int(count)}")
    if wanted.offer_id.count("/") != _PARTS - 1 or not wanted.region:
        return None
    card = card_of(gpu)
    return GpuOffer(
        provider=provider,
        offer_id=wanted.offer_id,
        gpu=card.name if card else gpu,
        gpu_count=int(count),
        gpu_memory_mib=round(_number(gpu_memory) * 1024) or _memory_by_name(gpu),
        on_demand_price=_number(price) or None,
        spot_price=_number(spot) or None,
        region=f"{wanted.cloud}/{wanted.region}",
        price_source="SkyPilot's list" if wanted.cloud in RENEWED else "SkyPilot's list, age unknown",
        priced_at=at - RENEWED_AFTER,
        cpu_count=int(_number(cores)),
        memory_mib=round(_number(memory) * 1024),
    )


def _is_asked_for(offer: GpuOffer, section: SkypilotSection) -> bool:
    region = offer.region.partition("/")[2]
    if section.regions and not {region, offer.region} & set(section.regions):
        return False
    written = offer.offer_id.rpartition("/")[2].partition(":")[0].lower()
    return not section.gpus or any(
        name.lower() == written or ((card := card_of(name)) and card.name == offer.gpu)
        for name in section.gpus
    )


def _memory_by_name(gpu: str) -> int:
    """Return the memory a GPU's name tells, or the only one its card has; 0 where neither does.

    SkyPilot's lists of GCP and Azure hold none.
    """
    if told := _SIZE.search(gpu):
        return int(told.group(1)) * 1024
    card = card_of(gpu)
    return card.memory_mib[0] if card and len(card.memory_mib) == 1 else 0


def _price(offer: GpuOffer) -> float:
    return offer.on_demand_price or offer.spot_price or math.inf


def _number(value: Any) -> float:
    """Return a number above zero, or 0: what is missing comes as null, NaN or 0."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0.0
