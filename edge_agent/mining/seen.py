"""Say what a mining rule may look at: one frame, and what is remembered of the frames before it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol

from detection.detections import Detections, Floats, Image
from detection.novelty import FeatureReference
from fleet_contracts.samples import Reason


@dataclass(frozen=True, slots=True)
class Past:
    """Hold what is remembered of earlier frames, as values that no later frame changes.

    Attributes:
        frames: what was found in the frames of the same part before this one, oldest first.
        class_shares: (classes,) share of the recent detections that each class had, None before the first.
        counted: frames with a detection that the shares speak of.
    """

    frames: tuple[Detections, ...] = ()
    class_shares: Floats | None = field(default=None, compare=False)
    counted: int = 0


NO_PAST = Past()


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """Hold what a rule may look at.

    Attributes:
        features: (c,) pooled feature vector, None if the model gives none.
        frame_size: width and height in pixels.
        image: the frame itself, for looks; it may lie in a pooled buffer, so nobody keeps it.
        flag: why operator or PLC flagged this part, "" = not flagged.
        reference: what training of the serving model knew, None if the model does not say.
        past: filled by the miner.
    """

    detections: Detections
    camera: str
    part_id: str
    frame_in_part: int
    _: KW_ONLY
    features: Floats | None = field(default=None, compare=False)
    frame_size: tuple[int, int] = (0, 0)
    image: Image | None = field(default=None, compare=False)
    class_names: tuple[str, ...] = ()
    flag: str = ""
    reference: FeatureReference | None = field(default=None, compare=False)
    past: Past = NO_PAST


class MiningRule(Protocol):
    """Be one reason to keep a frame. Pure: no clock, no file, no random generator, no memory."""

    def check(self, seen: SeenFrame) -> Reason | None:
        """Return the reason with its score (0 to 1, higher is more valuable), or None."""
