"""Say what the simulated cloud offers now: processors of this host by region, on demand and spot; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet_contracts.training import GpuOffer
from flows.gpus.settings import SimulatedSection
from flows.gpus.simulated.cloud import TAKEN_AWAY, Instance


@dataclass(frozen=True, slots=True)
class Hardware:
    """Say what every machine of the cloud has: this host's own processor; sizes in MiB."""

    cores: int
    memory_mib: int
    disk_mib: int


def offers_of(
    name: str, section: SimulatedSection, instances: Iterable[Instance], hardware: Hardware, now: datetime
) -> tuple[GpuOffer, ...]:
    """Return an offer for each region; without a spot price where spot capacity is gone."""
    known = tuple(instances)
    return tuple(
        GpuOffer(
            provider=name,
            offer_id=region.name,
            gpu="cpu",
            gpu_count=0,
            gpu_memory_mib=0,
            on_demand_price=region.price,
            spot_price=region.spot_price if has_spot(region.name, section, known, now) else None,
            region=region.name,
            price_source="simulated",
            priced_at=now,
            cpu_count=hardware.cores,
            memory_mib=hardware.memory_mib,
            disk_mib=hardware.disk_mib,
        )
        for region in section.regions
    )


def has_spot(region: str, section: SimulatedSection, instances: Iterable[Instance], now: datetime) -> bool:
    """Tell whether a region has spot machines: after one was taken away there it has none for a while."""
    gone_for = timedelta(seconds=section.spot_back_seconds)
    return not any(
        one.region == region and one.why == TAKEN_AWAY and one.ended_at is not None
        and now - one.ended_at < gone_for
        for one in instances
    )  # fmt: skip


def is_to_be_taken(section: SimulatedSection, instances: Iterable[Instance], *, spot: bool) -> bool:
    """Tell whether a machine that starts now is the one to be taken away: the first spot one of the cloud."""
    return (
        spot
        and section.preempt_after_epochs is not None
        and not any(one.why == TAKEN_AWAY for one in instances)
    )
