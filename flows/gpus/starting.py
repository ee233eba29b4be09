"""Say what a rented machine is started with: an image, a command without a secret, and an environment.

Of all secrets a machine gets one: a URL from which the run's ticket can be read for two hours. It goes by
environment or standard input, never by the command line; nothing of the seller's account goes at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fleet_contracts import decode
from fleet_contracts.renting import CLAIM, COMMAND, LEASE, OFFER, POWER_OFF, UNTIL, WORK
from fleet_contracts.training import GpuOffer, Lease, TrainTicket
from flows.gpus.errors import LaunchRefused

__all__ = ["CLAIM", "COMMAND", "LEASE", "OFFER", "POWER_OFF", "UNTIL", "WORK", "Start", "moment", "start_of"]


@dataclass(frozen=True, slots=True)
class Start:
    """Hold how a machine is started; `environment` holds the claim, a secret for as long as that lives."""

    image: str
    environment: dict[str, str] = field(repr=False)
    command: tuple[str, ...] = COMMAND


def start_of(lease: Lease, ticket: Path, image: str, *, power_off: str = "") -> Start:
    """Return how the machine of a lease is started.

    Args:
        lease: under which it runs; its deadline becomes the trainer's own.
        ticket: file with the run's ticket.
        image: the trainer's image at this provider.
        power_off: command by which the machine ends itself, "" where the container's end is enough.

    Raises:
        LaunchRefused: the ticket names no claim: such a machine would be paid for nothing.
    """
    given = decode(TrainTicket, ticket.read_bytes(), where=str(ticket))
    claim = given.claim_url or given.renew_url
    if not claim:
        raise LaunchRefused(
            expected="a ticket with a claim", got="one without", where=given.run_id,
            now="Machines elsewhere need a store that signs URLs.",
        )  # fmt: skip
    environment = {
        CLAIM: claim,
        UNTIL: moment(lease.deadline),
        LEASE: lease.lease_id,
        OFFER: _promise(lease.offer),
    }
    return Start(image, {**environment, **({POWER_OFF: power_off} if power_off else {})})


def _promise(offer: GpuOffer) -> str:
    """Return an offer as the machine is told; a card's name is its seller's, so of it plain letters alone."""
    gpu = re.sub(r"[^\w .+()/-]", "", " ".join(offer.gpu.split()))
    return f"{offer.provider} {offer.gpu_count} {offer.gpu_memory_mib} {offer.memory_mib} {gpu}"


def moment(at: datetime) -> str:
    """Return a moment as the environment carries it."""
    return at.isoformat(timespec="seconds")
