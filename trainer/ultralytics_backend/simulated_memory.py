"""Be a card that is too small: raise torch's own out-of-memory error where a model of its memory says so.

It stands where there is no card, to walk the ladder with a real training. What it shows of order, records and
resume holds for any card; the bytes are a model's and were measured nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trainer.memory.port import Kind
from trainer.memory.simulator import Load, SimulatedMemory
from trainer.ultralytics_backend.moments import Moments

_MIB = 2**20


class SimulatedCard:
    """Be the `DeviceMemory` of a simulated card.

    Args:
        model: the card and how a training's need grows.
        start: what the network was made from.
    """

    kind: Kind = "device"

    def __init__(self, model: SimulatedMemory, start: str) -> None:
        self._model = model
        self._start = start
        self._used = model.fixed_bytes
        self._peak = self._used

    def __call__(self, moments: Moments, trainer: Any) -> None:
        """Take what this moment needs, by the settings that are really in force.

        Raises:
            torch.cuda.OutOfMemoryError: more than the card has.
        """
        load = self._load(trainer.settings_now())
        need = self._model.need_at(moments.moment, moments.epoch, moments.step, load)
        if need > self._model.card_bytes:
            raise torch.cuda.OutOfMemoryError(self._words(need))
        self._used = need
        self._peak = max(self._peak, need)

    def used(self) -> int:
        """Return what the last moment took."""
        return self._used

    def free(self) -> int:
        """Return what is left of the card."""
        return self._model.card_bytes - self._used

    def total(self) -> int:
        """Return the card's size."""
        return self._model.card_bytes

    def peak(self) -> int:
        """Return the most that was taken."""
        return self._peak

    def reset_peak(self) -> None:
        """Begin a new peak."""
        self._peak = self._used

    def _load(self, now: Mapping[str, Any]) -> Load:
        mixing = any(now.get(name) for name in ("mixup", "cutmix", "copy_paste"))
        return Load(
            batch=int(now["batch"]), image_size=int(now["image_size"]), half=bool(now.get("amp")),
            mosaic=bool(now.get("mosaic")), mixing=mixing,
            expandable=bool(now.get("expandable_segments", True)), model=self._start,
        )  # fmt: skip

    def _words(self, need: int) -> str:
        """Say it as torch does: what was asked for comes on top of what is taken."""
        asked = need - self._used
        return (
            f"CUDA out of memory. Tried to allocate {asked / _MIB:.2f} MiB. Simulated card has a capacity "
            f"of {self._model.card_bytes / _MIB:.2f} MiB of which {self.free() / _MIB:.2f} MiB is free."
        )
