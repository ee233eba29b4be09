"""Say what a machine is started with: what was rented, and never nothing where its claim should be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet_contracts import decode, encode, utc_now
from fleet_contracts.training import GpuOffer, Lease, TrainTicket
from flows.gpus.errors import LaunchRefused
from flows.gpus.starting import OFFER, start_of
from tests.flows.gpus.contract import RUN, write_ticket
from trainer.fitness.needs import promised

T4 = GpuOffer(
    provider="cloud-a", offer_id="1", gpu="T4", gpu_count=1, gpu_memory_mib=15_360, priced_at=utc_now()
)


def lease_of(offer: GpuOffer) -> Lease:
    """Return a recorded lease."""
    return Lease(
        task_id="plates", lease_id="lease-0000000000000001", run_id=RUN, provider=offer.provider, offer=offer,
        price_cap=0.0, deadline=utc_now() + timedelta(hours=1), state="recorded", recorded_at=utc_now(),
    )  # fmt: skip


def test_the_machine_reads_what_was_rented(tmp_path: Path) -> None:
    """What is written is what is read; a seller's name for a card brings no line and no sign of its own."""
    changed = {"provider": "cloud-b", "gpu_count": 2, "gpu_memory_mib": 49_140, "memory_mib": 65_536}
    offer = T4.model_copy(update={**changed, "gpu": "NVIDIA RTX A6000\nX=${{ 1 }}"})
    told = start_of(lease_of(offer), write_ticket(tmp_path / "ticket.json"), "image").environment[OFFER]
    assert set(told) <= set("cloud-b 2 49140 65536 NVIDIA RTX A6000 X1")
    assert promised(told, T4).model_copy(update={"gpu": "T4"}) == T4.model_copy(update=changed)


def test_a_ticket_without_a_claim_starts_nothing(tmp_path: Path) -> None:
    """A machine that could never learn what to do is not rented."""
    path = write_ticket(tmp_path / "ticket.json")
    given = decode(TrainTicket, path.read_bytes(), where="test")
    path.write_bytes(encode(given.model_copy(update={"claim_url": "", "renew_url": ""})))
    with pytest.raises(LaunchRefused, match="a ticket with a claim"):
        start_of(lease_of(T4), path, "image")
