"""Make the lease whose machine the tests of SkyPilot ask for."""

from __future__ import annotations

from datetime import timedelta

from fleet_contracts import utc_now
from fleet_contracts.training import GpuOffer, Lease
from flows.gpus.tags import tag_of
from tests.flows.gpus.contract import INSTALLATION

LEASE_ID = "lease-0011223344556677"
NAME = tag_of(INSTALLATION, LEASE_ID)
LAMBDA = "lambda/us-east-1/gpu_1x_a10/A10:1"


def lease_for(offer_id: str = LAMBDA, *, spot: bool = False, price_cap: float = 0.0) -> Lease:
    """Return a lease of an offer."""
    offer = GpuOffer(
        provider="sky", offer_id=offer_id, gpu="A10", gpu_count=1, gpu_memory_mib=24576, priced_at=utc_now()
    )
    return Lease(
        lease_id=LEASE_ID, task_id="plates", run_id="run-0123456789abcdef", provider="sky", offer=offer,
        price_cap=price_cap, deadline=utc_now() + timedelta(hours=2), state="recorded", spot=spot,
        recorded_at=utc_now(),
    )  # fmt: skip
