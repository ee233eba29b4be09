"""Share out the machine around the devices: data workers, image cache, threads; pure."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_contracts.training import GpuOffer
from trainer.planning.inputs import SnapshotSize
from trainer.planning.recipe import Cache, Recipe, StageWish

MOST_WORKERS = 8
"""Data workers of one device; more have to share memory bandwidth and were not seen to help."""
_UNKNOWN_WORKERS = 4
_ROOMY_CORES = 8
_RAM_SHARE = 0.5
"""Share of the host's memory the cache may take; workers, torch and the system need the rest."""
_UNKNOWN_RAM_MIB = 16_384
"""Memory assumed where the offer does not say: what the smallest rented machines with a card have."""
_DISK_SHARE = 0.5
_UNKNOWN_DISK_MIB = 100_000
"""Disk assumed where the offer does not say: what dstack asks of a machine by default, 100 GB."""
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class HostPlan:
    """Hold how the host is used, and why where it is not what the recipe asked for."""

    workers: int
    threads: int
    cache: Cache
    reasons: tuple[str, ...] = ()


def plan_host(
    recipe: Recipe, data: SnapshotSize, offer: GpuOffer, devices: int, stages: tuple[StageWish, ...]
) -> HostPlan:
    """Return workers (of each device), threads and cache; 0 threads leaves every core to the trainer."""
    workers, threads = _hands(recipe, offer, devices)
    cache, why = _cache(recipe.cache, data, offer, devices * max(one.image_size for one in stages) ** 2 * 3)
    return HostPlan(workers, threads, cache, (why,) if why else ())


def _hands(recipe: Recipe, offer: GpuOffer, devices: int) -> tuple[int, int]:
    cores = offer.cpu_count
    if offer.gpu_memory_mib > 0:
        each = (cores - 1) // devices if cores else _UNKNOWN_WORKERS
        workers = min(max(each, 1), MOST_WORKERS) if recipe.workers is None else recipe.workers
        return workers, recipe.threads
    # Without a card the network needs every core; only a machine with many spares some for the images.
    spare = cores // _ROOMY_CORES if cores >= _ROOMY_CORES else 0
    workers = spare if recipe.workers is None else recipe.workers
    threads = recipe.threads or (cores - workers if workers and cores else 0)
    return workers, max(threads, 0)


def _cache(wanted: Cache, data: SnapshotSize, offer: GpuOffer, image_bytes: int) -> tuple[Cache, str]:
    """Return the cache and why it is less than wanted.

    In memory, images lie decoded at the training size, once for each device; on disk as they came.
    """
    images = data.train_images + data.val_images
    if wanted == "ram":
        need = images * image_bytes // _MIB
        room = int((offer.memory_mib or _UNKNOWN_RAM_MIB) * _RAM_SHARE)
        if need <= room:
            return "ram", ""
        known = "" if offer.memory_mib else " (memory of the machine unknown)"
        why = f"cache on disk: {need} MiB decoded, {room} MiB of memory for it{known}"
    else:
        why = ""
    if wanted == "none":
        return "none", ""
    need = int(images * data.pixels * 3 / _MIB)
    room = int((offer.disk_mib or _UNKNOWN_DISK_MIB) * _DISK_SHARE)
    if need > room:
        known = "" if offer.disk_mib else " (disk of the machine unknown)"
        return "none", f"no cache: {need} MiB decoded, {room} MiB of disk for it{known}, and less memory"
    return "disk", why
