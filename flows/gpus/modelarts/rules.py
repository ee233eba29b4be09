"""Say what ModelArts' answers mean, and what is asked of it; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from fleet_contracts.training import GpuOffer
from flows.gpus.prices import dollars, gpu_of
from flows.gpus.sdk.calls import Kind, Refusal
from flows.gpus.settings import ModelArtsSection

ENDED = frozenset({"Completed", "Failed", "Terminated"})
"""Phases in which a job holds nothing."""
ABNORMAL = "Abnormal"
"""Its program is lost; whether its machine is, nobody tells, so it is listed until it is deleted."""
TERMINATING = "Terminating"
LISTED = ("Creating", "Pending", "Running", TERMINATING, ABNORMAL)
SOURCE = "whetstone.toml"
NO_SUCH_JOB = "ModelArts.2775"
_CONFLICTS = frozenset({"ModelArts.2751", "ModelArts.2796", "ModelArts.2878"})
"""Another job has the name; the job cannot be terminated; its state changed just now."""
_OWING = frozenset({"ModelArts.4116", "ModelArts.4118", "ModelArts.5017", "ModelArts.6201", "ModelArts.6203"})
"""The account owes money or is suspended for it: no other key helps."""
_THROTTLED = (".0308",)
_FOREIGN_PROJECT = "ModelArts.2786"
_NO_SUCH_PATH = "ModelArts.2836"
_SELLER = "ModelArts."


@dataclass(frozen=True, slots=True)
class Job:
    """Hold what is looked at of a job."""

    job_id: str
    name: str
    phase: str
    tasks: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Tell whether the program runs or may still come to; a phase nobody knows counts as running."""
        return self.phase not in ENDED and self.phase != ABNORMAL

    @property
    def costs(self) -> bool:
        """Tell whether anything may be billed."""
        return self.phase not in ENDED


@dataclass(frozen=True, slots=True)
class Flavor:
    """Hold one kind of machine as ModelArts lists it; 0 is what it does not tell."""

    flavor_id: str
    cpus: int = 0
    memory_mib: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold a job to be created; the environment holds the claim."""

    name: str
    image: str
    command: str
    environment: dict[str, str] = field(repr=False)
    flavor: str
    hours: int


def kind_of(refusal: Refusal) -> Kind:
    """Say what a refusal means.

    >>> kind_of(Refusal(400, "ModelArts.2775")), kind_of(Refusal(404, "APIGW.0101"))
    ('gone', 'away')
    """
    code, status = refusal.code, refusal.status
    if status in (0, 429) or status >= 500 or code.endswith(_THROTTLED) or code == _NO_SUCH_PATH:
        return "away"
    if code == NO_SUCH_JOB:
        return "gone"
    if code in _CONFLICTS:
        return "conflict"
    if code in _OWING:
        return "refused"
    if status in (401, 403) or code == _FOREIGN_PROJECT:
        return "token"
    if status == 404:
        # The gateway's own 404 speaks of the address, not of a job.
        return "gone" if code.startswith(_SELLER) else "away"
    return "conflict" if status == 409 else "refused"


def offers_of(
    name: str, section: ModelArtsSection, flavors: Iterable[Flavor], at: datetime
) -> list[GpuOffer]:
    """Return what may be rented of what the settings name; stock is not told.

    Args:
        name: the provider's.
        section: its settings, whose prices hold.
        flavors: what ModelArts lists.
        at: when the prices were written down.
    """
    listed = {flavor.flavor_id: flavor for flavor in flavors}
    return [
        GpuOffer(
            provider=name,
            offer_id=priced.spec,
            gpu=gpu_of(priced.gpu),
            gpu_count=priced.gpu_count,
            gpu_memory_mib=priced.gpu_memory_mib,
            on_demand_price=dollars(priced.price, section.money),
            region=section.region,
            price_source=SOURCE,
            priced_at=at,
            cpu_count=listed[priced.spec].cpus,
            memory_mib=listed[priced.spec].memory_mib,
        )
        for priced in section.specs
        if priced.spec in listed
    ]
