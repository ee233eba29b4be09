"""Choose what to change about a training that is held back, within what plan and machine allow.

Pure. A change is kept when images a second rise; one that harmed is undone once; one that did not help is not
tried again, and no settings are gone to twice, so that the cures of a run always end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fleet_contracts.training import WatchPolicy
from trainer.watch.diagnose import Diagnosis

Cache = Literal["none", "ram", "disk"]
Lever = Literal["workers", "cache", "batch", "undo"]
_HELPED = 1.03
_HARMED = 0.95
_PREFETCHED_BATCHES = 4
"""Batches a loader process has ready in shared memory (ultralytics' prefetch factor while training)."""
_WORKER_BYTES = 300 << 20
_SPARE_RAM = 0.6
_SPARE_CARD = 0.9
_FIRST_WORKERS = 2


@dataclass(frozen=True, slots=True)
class LoaderSettings:
    """Hold what a cure may change; `batch` is that of one device, `accumulation` counts batches a step."""

    workers: int
    cache: Cache
    batch: int
    accumulation: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold what the machine has room for; bytes. `gpu_*` are zero on a machine without a card.

    `dataset_ram_bytes` is what all images take in memory, `batch_bytes` one batch in shared memory.
    """

    cores: float
    host_free_bytes: int
    shared_free_bytes: int
    disk_free_bytes: int
    dataset_ram_bytes: int
    dataset_disk_bytes: int
    batch_bytes: int
    gpu_needed_bytes: int = 0
    gpu_limit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Treatment:
    """Hold a change that was made, and the images a second before and after it (None: not measured yet)."""

    lever: Lever
    before: LoaderSettings
    after: LoaderSettings
    rate_before: float
    rate_after: float | None = None

    @property
    def helped(self) -> bool:
        """Say whether more images a second came of it."""
        return self.rate_after is None or self.rate_after >= self.rate_before * _HELPED

    @property
    def harmed(self) -> bool:
        """Say whether fewer images a second came of it."""
        return self.rate_after is not None and self.rate_after < self.rate_before * _HARMED


@dataclass(frozen=True, slots=True)
class Cure:
    """Hold the settings to go on with from the next epoch, and why."""

    workers: int
    cache: Cache
    batch: int
    accumulation: int
    why: str
    lever: Lever

    @property
    def settings(self) -> LoaderSettings:
        """Return the settings alone."""
        return LoaderSettings(self.workers, self.cache, self.batch, self.accumulation)


@dataclass(frozen=True, slots=True)
class Advice:
    """Hold a cure, or None and why there is none."""

    cure: Cure | None
    why: str


@dataclass(frozen=True, slots=True)
class Ward:
    """Hold what a cure is chosen in view of; `history` is every change made so far, oldest first."""

    now: LoaderSettings
    limits: Limits
    policy: WatchPolicy
    history: tuple[Treatment, ...] = ()


_LEVERS: dict[str, tuple[Lever, ...]] = {
    "loader": ("workers", "cache"),
    "disk": ("cache", "workers"),
    "cpu-augmentation": ("cache",),
    "small-batch": ("batch",),
}


def advise(diagnosis: Diagnosis, ward: Ward) -> Advice:
    """Choose a cure for a diagnosis.

    What harmed is undone before anything else, whatever the diagnosis is now.
    """
    last = ward.history[-1] if ward.history else None
    if last is not None and last.harmed and last.lever != "undo" and ward.now == last.after:
        return _given(last.before, "undo", f"undo {last.lever}: {last.rate_before:.1f} images/s before, "
                                           f"{last.rate_after:.1f} after")  # fmt: skip
    levers = _LEVERS.get(diagnosis.kind)
    if levers is None:
        return Advice(None, "nothing to cure" if diagnosis.kind == "fine" else "the memory ladder's matter")
    if sum(one.lever != "undo" for one in ward.history) >= ward.policy.most_cures:
        return Advice(None, f"{ward.policy.most_cures} cures were tried, as many as the plan allows")
    reasons = []
    for lever in levers:
        target, why = _TARGETS[lever](ward)
        refused = _refused(lever, target, ward) if target is not None else why
        if target is not None and not refused:
            return _given(target, lever, f"{diagnosis.kind}: {why}")
        reasons.append(refused)
    return Advice(None, "; ".join(reasons))


def measured(history: Sequence[Treatment], rate: float) -> tuple[Treatment, ...]:
    """Return the history with the newest treatment's effect, in images a second, if it has none yet."""
    if not history or history[-1].rate_after is not None:
        return tuple(history)
    return (*history[:-1], replace(history[-1], rate_after=rate))


def _given(settings: LoaderSettings, lever: Lever, why: str) -> Advice:
    cure = Cure(settings.workers, settings.cache, settings.batch, settings.accumulation, why, lever)
    return Advice(cure, why)


def _refused(lever: Lever, target: LoaderSettings, ward: Ward) -> str:
    if any(one.lever == lever and not one.helped for one in ward.history):
        return f"{lever} was changed before and did not help"
    if any(target in (one.before, one.after) for one in ward.history):
        return f"{lever} would lead back to settings the run had already"
    return ""


def _more_workers(ward: Ward) -> tuple[LoaderSettings | None, str]:
    now, limits = ward.now, ward.limits
    wanted = max(now.workers * 2, _FIRST_WORKERS)
    each = max(_PREFETCHED_BATCHES * limits.batch_bytes, 1)
    room = {
        "cores": int(limits.cores),
        "host memory": now.workers + int(limits.host_free_bytes * _SPARE_RAM) // (_WORKER_BYTES + each),
        "shared memory": now.workers + int(limits.shared_free_bytes * _SPARE_RAM) // each,
    }
    if ward.policy.most_workers is not None:
        room["the plan"] = ward.policy.most_workers
    narrowest = min(room, key=lambda name: room[name])
    workers = min(wanted, room[narrowest])
    if workers <= now.workers:
        return None, f"{narrowest} allows no more than {max(room[narrowest], 0)} loader processes"
    return replace(now, workers=workers), f"{now.workers} loader processes become {workers}"


def _better_cache(ward: Ward) -> tuple[LoaderSettings | None, str]:
    now, limits = ward.now, ward.limits
    if not ward.policy.allow_cache:
        return None, "the plan allows no other image cache"
    if now.cache == "ram":
        return None, "images are in memory already"
    if limits.dataset_ram_bytes <= limits.host_free_bytes * _SPARE_RAM:
        return replace(now, cache="ram"), "images go to memory"
    if now.cache == "none" and limits.dataset_disk_bytes <= limits.disk_free_bytes * _SPARE_RAM:
        return replace(now, cache="disk"), "decoded images go to disk"
    return None, (f"{_mib(limits.dataset_ram_bytes)} MiB of images do not fit in "
                  f"{_mib(limits.host_free_bytes)} MiB of free memory")  # fmt: skip


def _larger_batch(ward: Ward) -> tuple[LoaderSettings | None, str]:
    now, limits = ward.now, ward.limits
    if not ward.policy.allow_batch:
        return None, "the plan allows no other batch"
    if now.accumulation % 2:
        return (
            None,
            f"the batch of {now.batch} x {now.accumulation} cannot grow and stay the recipe's",
        )
    if limits.gpu_needed_bytes * 2 > limits.gpu_limit_bytes * _SPARE_CARD:
        return (
            None,
            f"{_mib(limits.gpu_needed_bytes)} MiB would double, more than the card has room for",
        )
    larger = replace(now, batch=now.batch * 2, accumulation=now.accumulation // 2)
    return larger, f"batch {now.batch} x {now.accumulation} becomes {larger.batch} x {larger.accumulation}"


def _no_target(_: Ward) -> tuple[LoaderSettings | None, str]:
    return None, "an undone change is not a cure by itself"


_TARGETS = {
    "workers": _more_workers, "cache": _better_cache, "batch": _larger_batch, "undo": _no_target,
}  # fmt: skip


def _mib(size: int) -> int:
    return size >> 20
