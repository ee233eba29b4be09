"""Model a card that is too small, so that the ladder can be walked where there is no card; pure.

The need of a training grows with images, pixels, number format and augmentation, as a real one's does, and a
surge makes it appear at a chosen moment, epoch and step. The backend raises torch's own
out-of-memory error there. What such a card shows is how a run goes down and on; it says nothing about how
much memory a real card would need.

    >>> card = SimulatedMemory(card_bytes=40 * 2**20, surges=(Surge(moment="loss", epoch=2),))
    >>> card.need(Load(batch=16, image_size=64)) > card.card_bytes
    True
    >>> card.need(Load(batch=4, image_size=64)) > card.card_bytes
    False
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ENVIRONMENT = "WHETSTONE_SIMULATED_CARD"
"""A `SimulatedMemory` as JSON: the demo and people who try the ladder out set it for the trainer."""
Moment = Literal["loader", "forward", "loss", "backward", "optimizer", "ema", "validation"]
Bytes = Annotated[int, Field(ge=0)]
_MIB = 2**20


class Surge(BaseModel):
    """Let the need appear at one moment of every epoch from `epoch` (from 1) and its `step` (from 1) on.

    Validation has no steps of its own: there `step` does not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    moment: Moment = "backward"
    epoch: Annotated[int, Field(ge=1)] = 1
    step: Annotated[int, Field(ge=1)] = 1
    factor: Annotated[float, Field(gt=0.0)] = 1.0
    """The need there, as a multiple of the modelled one: crowded images need more."""


@dataclass(frozen=True, slots=True)
class Load:
    """Describe what a step holds: images over all devices, square pixels, and what is on."""

    batch: int
    image_size: int
    half: bool = False
    mosaic: bool = False
    mixing: bool = False
    expandable: bool = True
    model: str = ""


class SimulatedMemory(BaseModel):
    """Describe a simulated card; `model_shares` scales a network's need by the file name it starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    card_bytes: Bytes
    fixed_bytes: Bytes = 8 * _MIB
    bytes_per_pixel: Annotated[float, Field(gt=0.0)] = 630.0
    half_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.55
    mosaic_share: Annotated[float, Field(ge=0.0)] = 0.25
    """What four images' boxes in one add to the need, as a share of it."""
    mixing_share: Annotated[float, Field(ge=0.0)] = 0.15
    rigid_share: Annotated[float, Field(ge=0.0)] = 0.1
    """What is lost between blocks while segments cannot grow."""
    model_shares: dict[str, float] = Field(default_factory=dict)
    surges: tuple[Surge, ...] = (Surge(),)

    def need(self, load: Load, factor: float = 1.0) -> int:
        """Return the bytes a step takes at its peak."""
        pixels = load.batch * load.image_size**2
        step = pixels * self.bytes_per_pixel * (self.half_share if load.half else 1.0)
        step *= 1.0 + self.mosaic_share * load.mosaic + self.mixing_share * load.mixing
        step *= 1.0 if load.expandable else 1.0 + self.rigid_share
        step *= self.model_shares.get(Path(load.model).name, 1.0)
        return int(self.fixed_bytes + step * factor)

    def need_at(self, moment: str, epoch: int, step: int, load: Load) -> int:
        """Return the bytes taken at a moment: the peak where a surge is due, else what is always taken."""
        due = [one.factor for one in self.surges if one.moment == moment and _due(one, epoch, step)]
        return self.need(load, max(due)) if due else self.fixed_bytes


def simulated_from_environment() -> SimulatedMemory | None:
    """Return the card that the environment asks to simulate, or None.

    Raises:
        ValueError: the variable holds something else.
    """
    told = os.environ.get(ENVIRONMENT, "")
    return SimulatedMemory.model_validate_json(told) if told else None


def _due(surge: Surge, epoch: int, step: int) -> bool:
    if epoch != surge.epoch:
        return epoch > surge.epoch
    return step >= surge.step or surge.moment == "validation"
