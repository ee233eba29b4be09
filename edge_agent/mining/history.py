"""Remember earlier frames for the rules that need them, as values that later frames do not change."""

from __future__ import annotations

from collections import OrderedDict, deque

import numpy as np
import numpy.typing as npt

from detection.detections import Detections, Floats
from edge_agent.mining.seen import Past, SeenFrame

FRAMES = 4
"""Frames of a part the rules may look back on."""
OPEN_PARTS = 8
"""Parts remembered at once; a line whose parts overlap more than this forgets the oldest."""
MEMORY_FRAMES = 2000
"""Frames with a detection after which one counts a third of a new one."""
MAX_CLASSES = 4096


class Memory:
    """Keep what the rules' `Past` is made of; for the loop's thread alone.

    Args:
        low: detections below it do not count toward the shares of classes.
        frames: of one part that are remembered.
    """

    def __init__(self, low: float, frames: int = FRAMES) -> None:
        self._low = low
        self._frames = frames
        self._parts: OrderedDict[str, deque[Detections]] = OrderedDict()
        self._counts: npt.NDArray[np.float64] = np.zeros(0, np.float64)
        self._shares: Floats | None = None
        self._counted = 0

    def past_of(self, seen: SeenFrame) -> Past:
        """Return what was before this frame."""
        frames = self._parts.get(seen.part_id)
        return Past(tuple(frames) if frames else (), self._shares, self._counted)

    def add(self, seen: SeenFrame) -> None:
        """Remember a frame."""
        frames = self._parts.get(seen.part_id)
        if frames is None:
            frames = self._parts[seen.part_id] = deque(maxlen=self._frames)
            if len(self._parts) > OPEN_PARTS:
                self._parts.popitem(last=False)
        frames.append(seen.detections)
        self._count_classes(seen)

    def part_done(self, part_id: str) -> None:
        """Forget a part: a later one of the same name is another."""
        self._parts.pop(part_id, None)

    def _count_classes(self, seen: SeenFrame) -> None:
        found = seen.detections
        if len(found) == 0:
            return
        shown = found.class_id[(found.confidence >= self._low) & (found.class_id < MAX_CLASSES)]
        if shown.size == 0:
            return
        classes = max(len(seen.class_names), int(shown.max()) + 1)
        if classes > self._counts.size:
            self._counts = np.concatenate((self._counts, np.zeros(classes - self._counts.size)))
        self._counts *= 1.0 - 1.0 / MEMORY_FRAMES
        self._counts += np.bincount(shown, minlength=self._counts.size)
        # A new array each time, since an earlier `Past` may still hold the last one.
        self._shares = (self._counts / self._counts.sum()).astype(np.float32)
        self._counted += 1
