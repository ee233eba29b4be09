"""Fix the numbers of the demo in one value: paces, thresholds, the recipe, and how much is measured.

They are chosen for two cores: most of the six minutes is training.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from demo.line.defects import NEW_KIND
from demo.line.script import FIRST_CLASSES
from fleet_contracts.training import Precision
from flows.gpus.settings import SimulatedSection
from trainer.gate.settings import GateSettings
from trainer.memory.simulator import SimulatedMemory, Surge

# Lines, boxes and services share the cores with the gate, so a model's time can double by chance.
NOISY_MACHINE = GateSettings(
    max_latency_ratio=3.0, latency_slack_ms=12.0, ship=("int8", "fp16", "fp32")
)


# It holds a step of four parts and not one of eight, and is short late in training only.
CARD_TOO_SMALL = SimulatedMemory(
    card_bytes=128 * 2**20, half_share=1.0, surges=(Surge(moment="backward", epoch=16, step=9),)
)

# Half of the ninth epoch is lost, far from the end and from the card's surge.
SPOT_CLOUD = SimulatedSection(kind="simulated", preempt_after_epochs=8.5)


@dataclass(frozen=True, slots=True)
class Paces:
    """Say how many parts a second one line makes in each act, and how many in the first act."""

    known: float = 3.0
    changed: float = 6.0
    training: float = 1.5
    known_parts: int = 40


@dataclass(frozen=True, slots=True)
class Mining:
    """Say what the boxes keep; scores from 0 to 1."""

    low: float = 0.2
    high: float = 0.5
    random_share: float = 0.02
    max_per_hour: int = 2000


@dataclass(frozen=True, slots=True)
class Training:
    """Say how the demo retrains; sizes in pixels."""

    epochs: int = 18
    batch: int = 8
    learning_rate: float = 1e-3
    image_size: int = 192
    threads: int = 2
    validate_every: int = 3
    """Epochs between two measurements of the loss on validation parts."""
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    format_seconds: float = 15.0
    short_card: SimulatedMemory | None = CARD_TOO_SMALL
    """The card that training meets; None for the processor as it is."""
    threshold: int = 200
    """Verified new labels that start a training."""
    replay_images: int = 220
    """Old parts the first champion learnt from, trained on again so that it does not forget."""
    golden_images: int = 160
    """Old parts the gate asks about forgetting."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Hold everything the demo is told."""

    seed: int = 1
    task_id: str = "boards"
    channel: str = "stable"
    devices: tuple[str, ...] = ("box-a", "box-b")
    first_classes: tuple[str, ...] = FIRST_CLASSES
    new_class: str = NEW_KIND
    stains_before_class: int = 4
    """Parts with something the labeller has no name for that it takes until the class is added."""
    paces: Paces = field(default_factory=Paces)
    mining: Mining = field(default_factory=Mining)
    training: Training = field(default_factory=Training)
    gate: GateSettings = NOISY_MACHINE
    cloud: SimulatedSection | None = None
    """The simulated cloud that trains; None trains on this machine."""
    unseen_parts: int = 300
    """Parts on which recall before and after is measured."""

    def line_seed(self, device: str) -> int:
        """Return the seed of a device's line."""
        return self.seed * 100 + self.devices.index(device)
