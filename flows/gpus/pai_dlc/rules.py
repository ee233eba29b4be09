"""Say what PAI-DLC's answers mean, and what is asked of it; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.prices import dollars, gpu_of
from flows.gpus.sdk.calls import Kind, Refusal
from flows.gpus.settings import ForeignMoney, PaiDlcSection, PricedSpec

ENDED = frozenset({"Succeeded", "Failed", "Stopped"})
"""States in which a job neither runs nor holds anything."""
RESERVED = frozenset({"SucceededReserving", "FailedReserving"})
"""States in which the program has ended and its machine is kept, and paid."""
STOPPING = "Stopping"
SOURCE = "whetstone.toml, spot by PAI-DLC"
"""A person wrote the price; the share of it that spot costs is the seller's, of the moment."""
WITH_STOCK = "WithStock"
_THROTTLED = "throttling"
_KEY_WORDS = ("accesskeyid", "signature", "securitytoken")
_NONE_LEFT_WORDS = ("quota", "stock", "notenough", "arrear", "balance", "insufficientresource")
_NO_SUCH_CALL = ("invalidaction", "invalidapi", "invalidversion", "none")
"""What a wrong address answers with 404: no job is believed to be gone because of it."""
_MOST_GIB = 8192
"""A machine's memory is told "in MiB or GiB": a larger number than this cannot be GiB."""


@dataclass(frozen=True, slots=True)
class Job:
    """Hold what is looked at of a job; `pods` are those it has, oldest first."""

    job_id: str
    name: str
    status: str
    reason: str = ""
    pods: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Tell whether the program runs or may still come to; a state nobody knows counts as running."""
        return self.status not in ENDED | RESERVED

    @property
    def costs(self) -> bool:
        """Tell whether anything may be billed."""
        return self.status not in ENDED


@dataclass(frozen=True, slots=True)
class Spec:
    """Hold one kind of machine as PAI-DLC lists it; `discount` is spot's share of the price, None unknown."""

    instance_type: str
    available: bool
    cpus: int
    memory: int
    spot_stock: str
    discount: float | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold a job to be created; the environment holds the claim."""

    name: str
    image: str
    command: str
    environment: dict[str, str] = field(repr=False)
    spec: str
    minutes: int
    spot: dict[str, str | float] | None = None
    resources: dict[str, str] | None = None
    """CPU, memory and GPUs out of a quota, instead of a kind of machine."""


def kind_of(refusal: Refusal) -> Kind:
    """Say what a refusal means.

    >>> kind_of(Refusal(404, "InvalidAccessKeyId.NotFound")), kind_of(Refusal(429, "Throttling.User"))
    ('token', 'away')
    """
    code = refusal.code.lower()
    if refusal.status in (0, 429) or code.startswith(_THROTTLED):
        return "away"
    if refusal.status == 401 or any(word in code for word in _KEY_WORDS):
        return "token"
    if any(word in code for word in _NONE_LEFT_WORDS):
        return "refused"
    if refusal.status >= 500:
        return "away"
    if refusal.status == 404 and code.startswith(_NO_SUCH_CALL):
        return "away"
    by_status: dict[int, Kind] = {403: "token", 404: "gone", 409: "conflict"}
    return by_status.get(refusal.status, "refused")


def offers_of(name: str, section: PaiDlcSection, specs: Iterable[Spec], at: datetime) -> list[GpuOffer]:
    """Return what may be rented now of what the settings name.

    Args:
        name: the provider's.
        section: its settings, whose prices hold.
        specs: what PAI-DLC lists.
        at: when the prices were written down.
    """
    listed = {spec.instance_type: spec for spec in specs}
    found = []
    for priced in section.specs:
        spec = listed.get(priced.spec)
        if spec is None:
            continue
        price = dollars(priced.price, section.money)
        spot = None if section.resource else _spot_price(spec, price)
        if spec.available or spot is not None:
            found.append(
                GpuOffer(
                    provider=name,
                    offer_id=priced.spec,
                    gpu=gpu_of(priced.gpu),
                    gpu_count=priced.gpu_count,
                    gpu_memory_mib=priced.gpu_memory_mib,
                    on_demand_price=price if spec.available else None,
                    spot_price=spot,
                    region=section.region,
                    price_source=SOURCE,
                    priced_at=at,
                    cpu_count=spec.cpus,
                    memory_mib=_mib(spec.memory),
                )
            )
    return found


def spot_limit(lease: Lease, priced: PricedSpec, money: ForeignMoney) -> dict[str, str | float]:
    """Return the highest price a spot job takes: the run's cap, and never more than on demand.

    PAI-DLC takes it in yuan a minute; an account in another currency gets it as a share of the price.
    """
    cap = lease.price_cap * money.per_dollar
    limit = min(cap, priced.price) if cap > 0.0 else priced.price
    found: dict[str, str | float] = {"spot_strategy": "SpotWithPriceLimit"}
    if money.currency == "CNY":
        found["spot_price_limit"] = math.floor(limit / 60.0 * 1e4) / 1e4
    else:
        found["spot_discount_limit"] = math.floor(limit / priced.price * 1e2) / 1e2
    return found


def out_of_quota(offer: GpuOffer) -> dict[str, str]:
    """Return what a job takes of a quota, as large as the offer's machine."""
    asked = {"gpu": str(offer.gpu_count)}
    if offer.cpu_count:
        asked["cpu"] = str(offer.cpu_count)
    if offer.memory_mib:
        asked["memory"] = f"{offer.memory_mib // 1024}Gi"
    return asked


def _spot_price(spec: Spec, price: float) -> float | None:
    """Return dollars an hour, None where there is none now or its price is not told; 0 is not told."""
    if spec.spot_stock != WITH_STOCK or not spec.discount or not 0.0 < spec.discount <= 1.0:
        return None
    return price * spec.discount


def _mib(memory: int) -> int:
    return memory * 1024 if memory <= _MOST_GIB else memory
