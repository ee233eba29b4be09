"""Look at the card this process trains on, with what torch's allocator knows about its memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from trainer.ultralytics_backend import ranks
from trainer.watch.device_clock import DeviceClock
from trainer.watch.gpu import SIMULATED_GPU, reader_for
from trainer.watch.sample import GpuReader, GpuReading
from trainer.watch.timings import StepClock


def card_reader(environment: Mapping[str, str], memory_share: float = 1.0) -> GpuReader | None:
    """Return the way to look at this process's card, or None without one.

    Args:
        environment: may name a simulated card.
        memory_share: share of the card's memory this process may take.
    """
    if environment.get(SIMULATED_GPU):
        return reader_for(environment)
    if not torch.cuda.is_available():
        return None
    device = ranks.local_rank()
    uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    inner = reader_for(environment, uuid) or reader_for(environment, f"MIG-{uuid}")
    return TorchCard(inner, device, memory_share) if inner is not None else None


def step_clock() -> StepClock | DeviceClock:
    """Return the clock for this process's steps: the card's where it trains on one."""
    if not torch.cuda.is_available():
        return StepClock()
    return DeviceClock(StepClock(), lambda: torch.cuda.Event(enable_timing=True))


class TorchCard:
    """Add to a card's reading what of its memory is needed: torch keeps freed memory, so a card looks fuller.

    Not confirmed on a GPU.
    """

    def __init__(self, inner: GpuReader, device: int, memory_share: float) -> None:
        self._inner = inner
        # Named, since the present device is each thread's own and this is read from the watch's.
        self._device = device
        self._share = memory_share

    def read(self) -> GpuReading | None:
        """Return the card's state."""
        seen = self._inner.read()
        if seen is None:
            return None
        stats = torch.cuda.memory_stats(self._device)
        peak = int(stats.get("allocated_bytes.all.peak", 0))
        others = max(seen.used_bytes - int(stats.get("reserved_bytes.all.current", 0)), 0)
        if self._share < 1.0:  # the cap counts torch's own memory alone
            return dataclasses.replace(
                seen, needed_bytes=peak, limit_bytes=int(seen.total_bytes * self._share)
            )
        return dataclasses.replace(seen, needed_bytes=others + peak, limit_bytes=seen.total_bytes)

    def close(self) -> None:
        """Let go of the card."""
        self._inner.close()
