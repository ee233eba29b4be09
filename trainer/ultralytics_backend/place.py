"""Keep where a training stands within its epochs; plain counting, no decisions about when to do what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(slots=True)
class Losses:
    """Average the parts of the loss over an epoch's steps, on the device, so that no step waits for it."""

    names: tuple[str, ...] = ()
    sums: Any = None
    count: int = 0

    def add(self, items: dict[str, Any]) -> None:
        """Count one step's parts."""
        parts = torch.stack(list(items.values())).detach().float()
        self.names = tuple(items)
        self.sums = parts if self.sums is None else self.sums.to(parts.device) + parts
        self.count += 1

    def means(self) -> dict[str, float]:
        """Return the mean of each part so far; waits for the device."""
        values = [] if self.sums is None else (self.sums / max(self.count, 1)).tolist()
        return dict(zip(self.names, values, strict=True))

    def clear(self) -> None:
        """Begin anew."""
        self.names, self.sums, self.count = (), None, 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        sums = [] if self.sums is None else self.sums.tolist()
        return {"names": list(self.names), "sums": sums, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.names, self.count = tuple(state["names"]), int(state["count"])
        self.sums = torch.tensor(state["sums"]) if state["names"] else None


@dataclass(slots=True)
class Place:
    """Say how far a training is.

    `epoch` counts finished ones, `images` those of the running epoch's order that went into steps,
    `pending` the batches whose gradients wait for the optimizer, `step` the batches this process did in
    the running epoch.
    """

    epoch: int = 0
    images: int = 0
    pending: int = 0
    step: int = 0
    losses: Losses = field(default_factory=Losses)

    def go_to(self, epoch: int, images: int) -> None:
        """Stand at an image of an epoch, nothing pending."""
        self.epoch, self.images, self.pending, self.step = epoch, images, 0, 0

    def next_epoch(self) -> None:
        """Stand at the beginning of the next epoch."""
        self.go_to(self.epoch + 1, 0)
        self.losses.clear()
