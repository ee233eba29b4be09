"""Say why a frame is hard by how unusual it is, and let operator or PLC ask for one part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_agent.mining.seen import SeenFrame
from fleet_contracts.samples import Reason

NOVELTY = "novelty"
RARE_CLASS = "rare-class"
FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Novelty:
    """Keep a frame whose feature vector lies farther than `distance` from what training knew.

    1.0 is the distance 99 of 100 training images stay below. Silent when the model gives no features, or
    carries no reference to hold them against.
    """

    distance: float

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score from 0 at `distance` to 1 at infinity; half at twice of it."""
        if seen.reference is None or seen.features is None:
            return None
        if seen.features.shape != (seen.reference.dimensions,):
            return None
        far = seen.reference.distance(seen.features)
        if far < self.distance or far <= 0.0:
            return None
        score = 1.0 if math.isinf(far) else 1.0 - self.distance / far
        return Reason(
            rule=NOVELTY, score=round(score, 4), detail=f"{far:.2f} times the distance of 99 % of training"
        )


@dataclass(frozen=True, slots=True)
class RareClass:
    """Keep a frame that shows a class with less than `share` of the recent detections.

    Silent until `settled` frames with a detection were counted: at first every class is rare.
    """

    low: float
    share: float
    settled: int = 200

    def check(self, seen: SeenFrame) -> Reason | None:
        """Score by how rare the rarest class of the frame is: 1 for one not seen before."""
        shares, found = seen.past.class_shares, seen.detections
        if shares is None or seen.past.counted < self.settled or self.share <= 0 or len(found) == 0:
            return None
        shown = found.class_id[found.confidence >= self.low]
        if shown.size == 0:
            return None
        known = np.where(shown < shares.size, shares[np.minimum(shown, shares.size - 1)], 0.0)
        rarest = int(known.argmin())
        least = float(known[rarest])
        if least >= self.share:
            return None
        return Reason(
            rule=RARE_CLASS,
            score=round(1.0 - least / self.share, 4),
            detail=f"a class with {least:.2%} of the recent detections",
        )


@dataclass(frozen=True, slots=True)
class Flagged:
    """Keep every frame of a part that operator or PLC flagged."""

    def check(self, seen: SeenFrame) -> Reason | None:
        """Return a reason of full score for a flagged part."""
        if not seen.flag:
            return None
        return Reason(rule=FLAG, score=1.0, detail=seen.flag[:200])
