"""Read how many GPUs of an AutoDL region are idle; pure.

    >>> idle_in([{"RTX 4090": {"idle_gpu_num": 2, "total_gpu_num": 9}}, {"H20": {"idle_gpu_num": 0}}])
    {'RTX 4090': 2, 'H20': 0}

It is counted for one GPU a container: two that are idle may be in two machines, and then no container of two
finds its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flows.gpus.autodl.errors import CallRefused
from flows.gpus.autodl.money import MILLI
from flows.gpus.errors import ProviderAway
from flows.gpus.settings import AutodlElasticSection, PricedSpec

log = logging.getLogger("whetstone.gpus")

REGIONS = (
    "westDC2", "westDC3", "beijingDC1", "beijingDC2", "beijingDC3", "beijingDC4", "neimengDC1", "neimengDC3",
    "foshanDC1", "chongqingDC1", "yangzhouDC1",
)  # fmt: skip
"""The region signs of AutoDL's documentation, asked one by one where the settings name none."""


def stock_body(region: str, section: AutodlElasticSection) -> dict[str, Any]:
    """Return what is asked for: machines that a container of ours could be placed on."""
    return {
        "region_sign": region,
        "cuda_v_from": section.cuda,
        "cuda_v_to": max(section.cuda, section.cuda_to),
        "gpu_name_set": sorted({spec.spec for spec in section.specs}),
        "price_from": 0,
        "price_to": round(max(spec.price for spec in section.specs) * MILLI),
    }


def in_regions(
    regions: Sequence[str], ask: Callable[[str], Iterable[PricedSpec]]
) -> list[tuple[str, PricedSpec]]:
    """Return what each region has; one that AutoDL refuses, as a sign it gave up, costs its own offers alone.

    Raises:
        CallRefused: it refuses all of them.
    """
    found: list[tuple[str, PricedSpec]] = []
    refusals = []
    for region in regions:
        try:
            found += [(region, spec) for spec in ask(region)]
        except CallRefused as error:
            log.warning("gpus.autodl_region_refused region=%s said=%s", region, error.got)
            refusals.append(error)
    if len(refusals) == len(regions):
        raise refusals[0]
    return found


def idle_in(data: Any) -> dict[str, int]:
    """Return the idle GPUs of each name.

    Raises:
        ProviderAway: the answer is no stock.
    """
    try:
        return {
            str(name): int(numbers.get("idle_gpu_num") or 0)
            for entry in data or ()
            for name, numbers in entry.items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise ProviderAway(
            expected="GPUs by name with idle_gpu_num", got=type(error).__name__, where="AutoDL's stock"
        ) from error
