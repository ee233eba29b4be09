"""List what stays in memory from step to step: weights, averaged weights, optimizer states, buckets; pure."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.vram.profile import TERMS, ModelProfile
from trainer.vram.shape import TrainingShape

Sized = tuple[int, int]
"""A term's number in TERMS, and bytes."""

_COPIES = {"SGD": 1}
_OTHER_COPIES = 2
"""Adam and its kin, MuSGD, and whatever nobody traced."""
_COUNTING = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")
_COUNTER = 4
"""Bytes of the step's count that these keep for each tensor; the allocator makes 512 of them."""
_FUSED = ("Adam", "AdamW")
"""Stepped by one kernel without temporaries."""
CUBLAS_BYTES = 2 * 4096 * 1024 + 16 * 1024 * 8
"""torch's cuBLAS workspace (:4096:2:16:8), taken from the caching allocator; 32 MiB on Hopper."""
_BUCKET_COPIES = 1.0
"""DDP keeps its buckets beside the gradients: ultralytics does not set `gradient_as_bucket_view`."""


@dataclass(frozen=True, slots=True)
class Persistent:
    """Hold blocks that are there before the first step, and those that come with it."""

    from_start: tuple[Sized, ...]
    from_first_step: tuple[Sized, ...]


def persistent_blocks(profile: ModelProfile, shape: TrainingShape) -> Persistent:
    """Return one block a tensor, in the order in which a run makes them."""
    whole = (*profile.parameter_sizes, *profile.buffer_sizes)
    start = _blocks("weights", whole)
    if shape.ema:
        start += _blocks("ema", whole)
    if shape.devices > 1:
        start += _blocks("ddp", tuple(round(size * _BUCKET_COPIES) for size in profile.trained_sizes))
    if shape.accumulation > 1:
        start += _blocks("gradients", profile.trained_sizes)
    start += _blocks("workspace", (CUBLAS_BYTES,))
    copies = optimizer_copies(profile, shape.optimizer)
    states = [size for size in profile.trained_sizes for _ in range(copies)]
    states += [_COUNTER] * (len(profile.trained_sizes) if shape.optimizer in _COUNTING else 0)
    return Persistent(tuple(start), tuple(_blocks("optimizer", tuple(states))))


def optimizer_copies(profile: ModelProfile, optimizer: str) -> int:
    """Return how many states of a parameter's size an optimizer keeps."""
    return round(profile.optimizer_copies.get(optimizer, _COPIES.get(optimizer, _OTHER_COPIES)))


def optimizer_temporaries(profile: ModelProfile, shape: TrainingShape) -> tuple[int, ...]:
    """Return what a step of an optimizer nobody traced takes for a while: one copy of the gradients.

    torch steps lists of tensors at once on CUDA, and weight decay alone makes such a copy.
    """
    return () if shape.optimizer in _FUSED else profile.trained_sizes


def _blocks(term: str, sizes: tuple[int, ...]) -> list[Sized]:
    number = [str(name) for name in TERMS].index(term)
    return [(number, size) for size in sizes if size]
