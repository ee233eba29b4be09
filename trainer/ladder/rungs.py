"""Be the rungs: each a small object that says what it would change in a job, and what must show that it did.

    card       half precision → batch halved → mixup, cutmix and copy-paste off → mosaic off
               → segments that grow → smaller image → smaller model
    machine    cache ram → disk → none → workers halved, then none → batch halved → mixing off → mosaic off
               → smaller image → smaller model

The effective batch (batch x accumulation, over all devices) stays what it was: only its divisors are
offered. The last two change what ships and are offered only as far as the plan's policy allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fleet_contracts.training import MemoryPolicy
from trainer.backend_job import BackendJob
from trainer.memory.port import Kind
from trainer.memory.trouble import SHARED_MEMORY, Trouble

Changes = dict[str, Any]
"""Fields of `BackendJob` with their new values."""
MIXING = ("mixup", "cutmix", "copy_paste")
MIXES_OF_LEVEL: dict[str, tuple[str, ...]] = {
    "none": (),
    "light": (),
    "full": ("mosaic",),
    "heavy": ("mosaic", "mixup", "cutmix", "copy_paste"),
}
"""Which augmentations that hold several images at once a level switches on; a test compares the backend's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Hold where a run stands when it looks for a rung; `in_force` is what the child last reported."""

    job: BackendJob
    trouble: Trouble
    policy: MemoryPolicy
    in_force: Mapping[str, Any]


class Step(Protocol):
    """Be one kind of rung; it may be taken several times.

    `ships` says that the model that ships changes; `same_outcome` that training stays what it was but for
    rounding, so that such a rung may be jumped over on a mere prediction.
    """

    name: str
    ships: bool
    same_outcome: bool

    def changes(self, place: Place) -> Changes | None:
        """Return what to change in the job, or None where this rung has nothing to give."""

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Return what the child must report as in force for the changed job."""


class HalfPrecision:
    """Compute in half precision (AMP) where the job asks for full precision."""

    name, ships, same_outcome = "amp", False, True

    def changes(self, place: Place) -> Changes | None:
        """Ask for the card's own half format; a simulated card stands on a processor, which knows bf16."""
        card = place.job.simulated_memory
        simulated = card is not None
        if card is not None and card.half_share >= 1.0:
            return None  # half precision saves nothing there
        full = place.job.precision == "fp32" or (simulated and place.job.precision == "auto")
        return {"precision": "bf16" if simulated else "auto"} if full else None

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect AMP to be on."""
        return {"amp": True}


class HalfBatch:
    """Take the largest divisor of the effective batch that is at most half the batch."""

    name, ships, same_outcome = "batch", False, True

    def changes(self, place: Place) -> Changes | None:
        """Halve the batch and raise the accumulation by as much, exactly."""
        job = place.job
        effective = job.batch * job.accumulation
        least = max(place.policy.least_batch * job.devices, job.devices)
        # A batch is never larger than the data, so the one in force may be smaller than the job's.
        now = min(job.batch, int(_reported(place, ("batch",)).get("batch", job.batch)))
        offered = [
            size for size in range(least, now // 2 + 1)
            if effective % size == 0 and size % job.devices == 0
        ]  # fmt: skip
        return {"batch": max(offered), "accumulation": effective // max(offered)} if offered else None

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect the batch, and the effective batch behind it."""
        return {"batch": job.batch, "nbs": job.batch * job.accumulation}


class _Off:
    """Switch augmentations off that hold several images at once."""

    ships, same_outcome = False, False

    def __init__(self, name: str, settings: tuple[str, ...]) -> None:
        self.name = name
        self._settings = settings

    def changes(self, place: Place) -> Changes | None:
        """Set them to zero where one of them is on."""
        job = place.job
        level = dict.fromkeys(MIXES_OF_LEVEL[job.augmentation], 1.0)
        values = {**level, **job.augmentation_values, **_reported(place, self._settings)}
        if not place.policy.allow_mix_off or not any(values.get(one, 0.0) for one in self._settings):
            return None
        return {"augmentation_values": {**job.augmentation_values, **dict.fromkeys(self._settings, 0.0)}}

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect zeros."""
        return dict.fromkeys(self._settings, 0.0)


class GrowingSegments:
    """Let CUDA's allocator use segments that grow, which leaves less memory unusable."""

    name, ships, same_outcome = "expandable-segments", False, True

    def changes(self, place: Place) -> Changes | None:
        """Switch them on where they are off."""
        return None if place.job.expandable_segments else {"expandable_segments": True}

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect them on."""
        return {"expandable_segments": True}


class SmallerImage:
    """Train and ship at the next smaller image size that the policy names."""

    name, ships, same_outcome = "smaller-image", True, False

    def changes(self, place: Place) -> Changes | None:
        """Take the largest size below the job's."""
        offered = [size for size in place.policy.smaller_images if size < place.job.image_size]
        return {"image_size": max(offered)} if offered else None

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect the size."""
        return {"image_size": job.image_size}


class SmallerModel:
    """Begin again with the next network that the policy names, from fresh weights."""

    name, ships, same_outcome = "smaller-model", True, False

    def changes(self, place: Place) -> Changes | None:
        """Take the network after the job's own; its checkpoints are its own too, and nothing is frozen."""
        models = place.policy.smaller_models
        left = models[models.index(place.job.start) + 1 :] if place.job.start in models else models
        if not left:
            return None
        lineage = f"{place.job.lineage.split('+')[0]}+{left[0]}"
        return {"start": left[0], "lineage": lineage, "freeze_layers": 0}

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect nothing in the settings: the network is the job's start."""
        return {}


class LessCache:
    """Keep the images on disk, then nowhere, in place of in memory."""

    name, ships, same_outcome = "cache", False, True

    def changes(self, place: Place) -> Changes | None:
        """Step from ram to disk to none; shared memory holds batches on their way, no cache."""
        lower = {"ram": "disk", "disk": "none"}.get(place.job.cache)
        return {"cache": lower} if lower and place.trouble.cause != SHARED_MEMORY else None

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect what is left of it."""
        return {"cache": job.cache}


class FewerWorkers:
    """Load with half as many worker processes, and last in the training process itself."""

    name, ships, same_outcome = "workers", False, True

    def changes(self, place: Place) -> Changes | None:
        """Halve what is in force, which may be fewer than asked for."""
        workers = int(_reported(place, ("workers",)).get("workers", place.job.workers))
        workers = min(workers, place.job.workers) or 0
        return {"workers": workers // 2} if workers else None

    def must_show(self, job: BackendJob) -> dict[str, Any]:
        """Expect the number."""
        return {"workers": job.workers}


_LAST: tuple[Step, ...] = (SmallerImage(), SmallerModel())
_OFF: tuple[Step, ...] = (_Off("mixing-off", MIXING), _Off("mosaic-off", ("mosaic",)))
LADDERS: dict[Kind, tuple[Step, ...]] = {
    "device": (HalfPrecision(), HalfBatch(), *_OFF, GrowingSegments(), *_LAST),
    "host": (LessCache(), FewerWorkers(), HalfBatch(), *_OFF, *_LAST),
}


def _reported(place: Place, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: place.in_force[name] for name in names if place.in_force.get(name) is not None}
