"""Say why a frame is a hard example, by that frame's scores alone; and the random floor.

>>> from detection.detections import Detections
>>> RandomFloor(1.0).check(SeenFrame(Detections.empty(), "cam0", "part-1", 0)).rule
'random'
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edge_agent.mining.seen import MiningRule, Past, SeenFrame
from fleet_contracts.samples import Reason

__all__ = ["MiningRule", "NothingSeen", "Past", "RandomFloor", "SeenFrame", "UncertainScore"]

UNCERTAIN = "uncertain"
NOTHING_SEEN = "nothing-seen"
RANDOM = "random"
_EMPTY, _NEARLY = 0.2, 0.3
"""What an empty frame is worth, and how much more one whose best score nearly reaches `low`."""


@dataclass(frozen=True, slots=True)
class UncertainScore:
    """Keep a frame with a detection whose confidence lies in `low` <= c < `high`."""

    low: float
    high: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by how near the most uncertain detection lies to the middle of the band."""
        confidence = seen.detections.confidence
        inside = confidence[(confidence >= self.low) & (confidence < self.high)]
        if inside.size == 0:
            return None
        middle, half = (self.low + self.high) / 2, max((self.high - self.low) / 2, 1e-6)
        score = float(1.0 - abs(inside - middle).min() / half)
        return Reason(
            rule=UNCERTAIN,
            score=round(max(score, 0.0), 4),
            detail=f"{inside.size} of {confidence.size} between {self.low} and {self.high}",
        )


@dataclass(frozen=True, slots=True)
class NothingSeen:
    """Keep a frame in which nothing reaches `low`: a good part, or something the model does not know."""

    low: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by how nearly something was seen, from 0.2 to 0.5: most empty frames are good parts.

        On a sound line they outnumber all others, and must not push doubtful ones out of outbox and budget.
        """
        best = float(seen.detections.confidence.max(initial=0.0))
        if best >= self.low:
            return None
        return Reason(
            rule=NOTHING_SEEN,
            score=round(_EMPTY + _NEARLY * best / self.low, 4),
            detail=f"best score {best:.3f}",
        )


@dataclass(frozen=True, slots=True)
class RandomFloor:
    """Keep a fixed share of all frames, so that what the model is sure and wrong about is seen too.

    The draw is a hash of part and frame, so a frame inspected again after a restart draws the same.
    """

    share: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Return a reason for the drawn frames, all of the same low score."""
        text = f"{seen.camera}/{seen.part_id}/{seen.frame_in_part}"
        draw = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
        if draw >= self.share:
            return None
        return Reason(rule=RANDOM, score=0.1, detail=f"share {self.share}")
