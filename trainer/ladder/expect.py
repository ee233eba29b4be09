"""Expect how many bytes a changed job would take: from a plan's estimate, else from what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_contracts.training import VramEstimate
from trainer.backend_job import BackendJob
from trainer.ladder.rungs import MIXES_OF_LEVEL
from trainer.memory.trouble import Trouble

Expect = Callable[[BackendJob], int | None]
"""Give the bytes that a job is expected to take of a card at its peak, or None where nobody knows."""
_FIXED_TERMS = {"weights", "gradients", "optimizer", "ema", "context", "ddp"}
"""Terms of an estimate that neither batch nor image size moves."""
_HALF = 0.5
"""Half precision cannot save more of a step than half, so that expectations from it err downward."""
_MIX_SHARE = 0.2
"""What mixing images adds to a step: more boxes, so more of the loss. A guess, used for order alone."""
_ACTIVATION_BYTES_PER_PIXEL = 630
"""Saved activations of yolo11n-like networks in full precision, by input pixel; larger networks take more."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Hold what is known when a rung is chosen.

    `in_force` is what the child last reported; `expect` None scales what was seen; `images` is the number of
    training images (0: unknown).
    """

    expect: Expect | None = None
    in_force: Mapping[str, Any] = field(default_factory=dict)
    images: int = 0


def load_of(job: BackendJob) -> float:
    """Return how heavy a step is, in pixels of full precision without mixing."""
    level = dict.fromkeys(MIXES_OF_LEVEL[job.augmentation], 1.0)
    mixes = any({**level, **job.augmentation_values}.get(name, 0.0) for name in ("mosaic", "mixup", "cutmix"))
    half = job.precision != "fp32" and not (job.simulated_memory is not None and job.precision == "auto")
    pixels = job.batch / job.devices * job.image_size**2
    return float(pixels * (_HALF if half else 1.0) * (1.0 + _MIX_SHARE * mixes))


def expected_bytes(job: BackendJob, before: BackendJob, trouble: Trouble, outlook: Outlook) -> int | None:
    """Return the bytes of the card that `job` is expected to take, seeing how `before` died.

    An estimate that promised `before` would fit is raised by as much as it was wrong. Without one, the bytes
    seen are scaled by the load, which is too little wherever a part of them does not shrink: a rung that not
    even this lets fit will not fit.
    """
    if trouble.kind != "device" or not trouble.limit_bytes:
        return None
    needed = max(trouble.needed_bytes, trouble.limit_bytes + 1)
    if outlook.expect is not None:
        now, then = outlook.expect(job), outlook.expect(before)
        if now is not None and then:
            return int(now * max(1.0, needed / then))
    return int(needed * load_of(job) / load_of(before))


def host_relief(job: BackendJob, before: BackendJob, trouble: Trouble, images: int) -> int | None:
    """Return the bytes of the machine's memory that going from `before` to `job` is expected to free.

    None where nobody knows: without the number of images a cache has no size.
    """
    if before.cache == "ram" and job.cache != "ram" and not images:
        return None
    computing = trouble.moment in ("forward", "loss", "backward", "optimizer", "validation")
    return _host_bytes(before, images, computing=computing) - _host_bytes(job, images, computing=computing)


def expect_from_estimate(estimate: VramEstimate, planned: BackendJob) -> Expect:
    """Return an expectation that scales a plan's estimate for `planned`; its fixed terms stay fixed."""
    fixed = sum(value for name, value in estimate.terms.items() if name in _FIXED_TERMS)
    moving = max(estimate.peak_bytes - fixed, 0)

    def expect(job: BackendJob) -> int | None:
        if job.start != planned.start:
            return None
        return int(fixed + moving * load_of(job) / load_of(planned))

    return expect


def _host_bytes(job: BackendJob, images: int, *, computing: bool) -> int:
    image = job.image_size**2 * 3
    cached = images * image if job.cache == "ram" else 0
    # Each worker holds two batches that nobody has asked for yet, and a copy of what Python writes to.
    loading = job.workers * (2 * job.batch * image + 64 * 2**20)
    step = job.batch * job.image_size**2 * _ACTIVATION_BYTES_PER_PIXEL if computing else job.batch * image
    return cached + loading + step
