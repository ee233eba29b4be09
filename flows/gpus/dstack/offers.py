"""Read what dstack offers, and judge whether an offer still stands; pure.

    >>> place = Place("runpod", "EU-RO-1", "NVIDIA GeForce RTX 4090", "RTX4090", 1, 24576)
    >>> place.offer_id
    'runpod/EU-RO-1/NVIDIA GeForce RTX 4090/1xRTX4090-24576'
    >>> place_of(place.offer_id) == place
    True

dstack tells spot and on-demand apart as two offers of one instance; here they are one with two prices. Of
several with one name, as zones make them, the cheapest counts, which is the one dstack takes. A price of 0 is
one that its catalogue does not know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleet_contracts.training import GpuOffer
from trainer.planning.cards import card_of

FREE_TO_TAKE = frozenset({"available", "unknown"})
"""`idle` and `busy` are instances of other people's fleets, which a fleet of our own does not use."""


@dataclass(frozen=True, slots=True)
class Place:
    """Name one thing that dstack rents: an instance of a backend in a region, with its cards."""

    backend: str
    region: str
    instance: str
    gpu: str
    count: int
    memory_mib: int

    @property
    def offer_id(self) -> str:
        """Return the name of the offer, from which the place can be read again."""
        return f"{self.backend}/{self.region}/{self.instance}/{self.count}x{self.gpu}-{self.memory_mib}"


def place_of(offer_id: str) -> Place | None:
    """Return what an offer's name means, None for one that is not of dstack's."""
    found = re.fullmatch(r"([^/]+)/([^/]+)/(.+)/(\d+)x([^/]+)-(\d+)", offer_id)
    if found is None:
        return None
    backend, region, instance, count, gpu, memory = found.groups()
    return Place(backend, region, instance, gpu, int(count), int(memory))


def read_offers(plan: Any, provider: str, wanted: Iterable[str], now: datetime) -> tuple[GpuOffer, ...]:
    """Return the offers of a plan that can be taken, cheapest first as dstack sorts them.

    Args:
        plan: what `runs/get_plan` answered.
        provider: whose offers they become.
        wanted: GPU names to keep, in any spelling; none keeps all.
        now: when it answered. dstack tells no age of its prices: it reads its catalogue every 15 minutes.
    """
    names = tuple(wanted)
    found: dict[Place, GpuOffer] = {}
    for row in _rows(plan):
        place = _place_in(row)
        price = price_in(row)
        if place is None or row["availability"] not in FREE_TO_TAKE or not _is_wanted(place.gpu, names):
            continue
        known = found.get(place) or _offer(row, place, provider, now)
        kind = "spot_price" if _is_spot(row) else "on_demand_price"
        prices = [one for one in (getattr(known, kind), price) if one is not None]
        found[place] = known.model_copy(update={kind: min(prices, default=None)})
    return tuple(found.values())


def why_gone(plan: Any, place: Place, *, spot: bool, ceiling: float | None) -> str:
    """Return why an offer no longer stands, "" where it does.

    Args:
        plan: what `runs/get_plan` answered just now.
        place: what is to be rented.
        spot: whether at its spot price.
        ceiling: the most that may be paid, None for no limit.
    """
    rows = [row for row in _rows(plan) if _place_in(row) == place and _is_spot(row) == spot]
    if not rows:
        return "no such offer any more"
    free = [row for row in rows if row["availability"] in FREE_TO_TAKE]
    if not free:
        return f"it is {', '.join(sorted({str(row['availability']) for row in rows}))}"
    prices = [price_in(row) for row in free]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        # dstack takes the cheapest, and to it a price of nothing is the cheapest there is.
        return "its price is not known any more"
    if ceiling is not None and min(known) > ceiling:
        return f"its price is ${min(known):g} an hour, above ${ceiling:g}"
    return ""


def price_in(row: dict[str, Any]) -> float | None:
    """Return what an offer costs an hour, None where its catalogue does not know: at 0, or no number at all.

    >>> [price_in({"price": price}) for price in (0.69, 0, -1, float("nan"), None)]
    [0.69, None, None, None, None]
    """
    price = row["price"]
    return float(price) if isinstance(price, int | float) and math.isfinite(price) and price > 0 else None


def _rows(plan: Any) -> Iterator[dict[str, Any]]:
    for job in plan["job_plans"]:
        yield from job["offers"]


def _place_in(row: dict[str, Any]) -> Place | None:
    instance = row["instance"]
    cards = instance["resources"]["gpus"]
    if not cards:
        return None
    card = cards[0]
    return Place(
        str(row["backend"]), str(row["region"]), str(instance["name"]), str(card["name"]), len(cards),
        int(card["memory_mib"]),
    )  # fmt: skip


def _is_spot(row: dict[str, Any]) -> bool:
    return bool(row["instance"]["resources"]["spot"])


def _is_wanted(gpu: str, wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return True
    card = card_of(gpu)
    return any(name.lower() == gpu.lower() or (card is not None and card_of(name) == card) for name in wanted)


def _offer(row: dict[str, Any], place: Place, provider: str, now: datetime) -> GpuOffer:
    resources = row["instance"]["resources"]
    return GpuOffer(
        provider=provider,
        offer_id=place.offer_id,
        gpu=place.gpu,
        gpu_count=place.count,
        gpu_memory_mib=place.memory_mib,
        region=f"{place.backend}/{place.region}",
        price_source=f"dstack/{place.backend}",
        priced_at=now,
        cpu_count=int(resources["cpus"]),
        memory_mib=int(resources["memory_mib"]),
        disk_mib=int((resources.get("disk") or {}).get("size_mib") or 0),
    )
