"""Say what the adapters' contract needs of a simulator: the truth, faults, a clock, and others' machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from fleet_contracts import encode, utc_now
from fleet_contracts.training import GpuOffer, TicketObject, TrainTicket
from flows.gpus.base import GpuProvider
from flows.gpus.leases import Terms

INSTALLATION = "plant7"
RUN = "run-0123456789abcdef"
CLAIM_URL = "https://store.example/bucket/ticket.json?X-Amz-Signature=5f1d7a3ec1a1m5ecret"
"""The one secret a machine may get; recognised wherever it turns up."""
Fault = Literal[
    "rate-limit",  # 429, or what the seller has for it, until calmed
    "unavailable",  # 503, until calmed
    "silence",  # connections are dropped without an answer, until calmed
    "garbage",  # the answer is no answer: a page of a proxy, half of a document; until calmed
    "lost-answer",  # the next launch has its whole effect, its answer is lost; once
    "no-capacity",  # the seller has no such machine left, or our quota is used up; until calmed
    "wrong-token",  # the token has been revoked; until calmed
    "lag",  # the list shows machines late, as late as `settles` admits; until calmed
]
Lack = Literal[Fault, "deadline", "logs", "taken-away", "foreign", "shown"]


@dataclass(frozen=True, slots=True)
class Truth:
    """Say how a machine really is, whatever the seller's interface tells of it.

    `costs` is true as long as anything of it is billed or runs: also a stopped one whose disk is kept.
    """

    machine: str
    costs: bool


class Rig(ABC):
    """Hold an adapter, its simulator and the strings a test pulls.

    `secrets` are the tokens and keys that may be seen nowhere; `quiet` the methods that ask the seller
    nothing, and so cannot find it away; `lacks` what the seller does not have, and why.
    """

    secrets: tuple[str, ...] = ()
    quiet: frozenset[str] = frozenset()
    lacks: Mapping[Lack, str] = {}
    shortest: timedelta = timedelta(minutes=2)
    """The shortest lease whose end the seller can keep."""

    @property
    @abstractmethod
    def provider(self) -> GpuProvider:
        """Return the adapter, made for `INSTALLATION`; the same one each time."""

    @abstractmethod
    def truth(self) -> tuple[Truth, ...]:
        """Return every machine of the account, also others' and ended ones still known."""

    @abstractmethod
    def environment(self, machine: str) -> Mapping[str, str]:
        """Return the environment the machine's program was started with, as far as we set it."""

    @abstractmethod
    def finish(self, machine: str) -> None:
        """Let the program on a machine end by itself; return when the seller knows."""

    def arm(self, fault: Fault) -> None:
        """Begin a fault."""
        raise NotImplementedError(fault)

    def fired(self, fault: Fault) -> int:
        """Return how often a fault hit since it was armed."""
        raise NotImplementedError(fault)

    @abstractmethod
    def calm(self) -> None:
        """End every fault."""

    def says(self, machine: str, line: str) -> None:
        """Have the program on a machine write a line; return when it is written."""
        raise NotImplementedError(line)

    def take_away(self, machine: str) -> None:
        """Have the seller end a machine (spot, maintenance, a person in the console)."""
        raise NotImplementedError(machine)

    def foreign(self) -> tuple[str, ...]:
        """Make machines on the account that are not ours, one named as another installation's would be."""
        raise NotImplementedError

    def shown(self) -> str:
        """Return all that the seller's logs and pages show of us: requests without the header that authorises
        and without the environment's values, metadata, names, command lines.
        """
        raise NotImplementedError

    def now(self) -> datetime:
        """Return the seller's clock."""
        return utc_now()

    def advance(self, time: timedelta) -> None:
        """Let the seller's clock pass; where it is the real one, wait so long."""
        raise NotImplementedError(time)


def write_ticket(path: Path) -> Path:
    """Write a ticket whose claim is `CLAIM_URL`; nothing else in it is real."""
    made = TrainTicket(
        task_id="plates", run_id=RUN, plan_url="https://store.example/plan", manifest_url="https://store.example/m",
        shards=(), put_urls={}, get_urls={}, renew_url="https://store.example/renew", claim_url=CLAIM_URL,
        start_weights=TicketObject(name="start.pt", url="https://store.example/s", sha256="0" * 64, size_bytes=1),
        expires_at=utc_now() + timedelta(hours=2),
    )  # fmt: skip
    path.write_bytes(encode(made))
    return path


def offer_of(rig: Rig) -> GpuOffer:
    """Return the first offer with a price."""
    return next(one for one in rig.provider.offers() if one.on_demand_price is not None)


def terms(rig: Rig, lasts: timedelta = timedelta(hours=2)) -> Terms:
    """Return terms of a run for the first offer with a price."""
    offer = offer_of(rig)
    return Terms("plates", RUN, offer, 0.0, rig.now() + lasts, price=offer.on_demand_price)


def costs(rig: Rig) -> set[str]:
    """Return the machines of the account that really cost something now."""
    return {one.machine for one in rig.truth() if one.costs}
