"""Say what it costs that data leave the store for a machine, and whether they leave its region; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flows.settings import StoreSettings
from flows.store.reach import host_of

GIB = 2**30
_CLOUDS = {
    "amazonaws.com": "aws", "amazonaws.com.cn": "aws", "aliyuncs.com": "aliyun",
    "myhuaweicloud.com": "huawei", "googleapis.com": "gcp",
}  # fmt: skip
_ZONE = re.compile(r"(?<=\d)[a-f]$|-[a-f]$")


@dataclass(frozen=True, slots=True)
class Egress:
    """Hold what a run's data cost on their way, and which way that is; `crosses` None where nobody knows."""

    cost: float
    crosses: bool | None
    words: str


def egress_cost(size_bytes: int, per_gib: float) -> float:
    """Return dollars for bytes that leave the store.

    >>> egress_cost(50 * GIB, 0.09)
    4.5
    """
    return size_bytes / GIB * per_gib


def store_region(settings: StoreSettings) -> str:
    """Return the store's region, "" for a store of one's own: what is set there means nothing but to sign."""
    host = host_of(settings.public_endpoint or settings.endpoint)
    return settings.region if host.endswith(tuple(_CLOUDS)) else ""


def crosses_regions(store: str, machine: str) -> bool | None:
    """Tell whether data leave their region; None where one of them is unknown.

    >>> crosses_regions("oss-cn-hangzhou", "cn-hangzhou"), crosses_regions("us-east-1", "us-west-2a")
    (False, True)
    >>> [crosses_regions("aws/us-east-1", one) for one in ("aws/us-east-1b", "lambda/us-east-1")]
    [False, True]
    """
    if not store or not machine:
        return None
    (home, here), (cloud, there) = _parts(store), _parts(machine)
    return here != there or bool(home and cloud and home != cloud)


def egress_of(settings: StoreSettings, machine_region: str, size_bytes: int, per_gib: float) -> Egress:
    """Return what a run's data cost to a machine's region, in words too.

    Args:
        settings: of the store.
        machine_region: the offer's, "" when unknown.
        size_bytes: what is fetched in all.
        per_gib: what the store's seller takes for a GiB to these machines, in dollars.
    """
    cost, home = egress_cost(size_bytes, per_gib), store_region(settings)
    crosses = crosses_regions(f"{_cloud_of(settings)}/{home}" if home else "", machine_region)
    way = f"{home or 'own store'} -> {machine_region or 'region unknown'}"
    told = {True: ", out of its region", False: ", within its region", None: ""}[crosses]
    return Egress(cost, crosses, f"{size_bytes / GIB:.2f} GiB {way}{told}: ${cost:.2f}")


def _cloud_of(settings: StoreSettings) -> str:
    host = host_of(settings.public_endpoint or settings.endpoint)
    return next((cloud for end, cloud in _CLOUDS.items() if host.endswith(end)), "")


def _parts(region: str) -> tuple[str, str]:
    """Return the cloud, "" where it is not told, and the region in plain words."""
    cloud, _, name = region.lower().strip().rpartition("/")
    return cloud, _plain(name)


def _plain(text: str) -> str:
    """Return a region without a seller's prefix and a zone's letter."""
    for prefix in ("oss-", "obs-", "s3-", "aws-", "aliyun-"):
        text = text.removeprefix(prefix)
    return _ZONE.sub("", text)
