"""Make samples of machines that are in a known state."""

from __future__ import annotations

from collections.abc import Callable

from trainer.watch.cure import Limits, LoaderSettings
from trainer.watch.diagnose import Scene
from trainer.watch.sample import GpuReading, HostReading, Sample
from trainer.watch.timings import StepTimes

GIB = 1 << 30


def host(**changes: float) -> HostReading:
    """Return a machine with half its cores in use and memory to spare."""
    values = {"cpu_share": 0.5, "io_wait": 0.0, "rss_bytes": 2 * GIB, "free_bytes": 40 * GIB,
              "total_bytes": 64 * GIB, "disk_read_bytes": 0, **changes}  # fmt: skip
    return HostReading(**values)  # type: ignore[arg-type]


def card(utilisation: float | None, full: float = 0.5) -> GpuReading:
    """Return a card of 24 GiB."""
    return GpuReading(utilisation, int(full * 24 * GIB), 24 * GIB, 120.0)


def samples(
    seconds: int, host: HostReading, gpu: GpuReading | Callable[[int], GpuReading] | None = None
) -> list[Sample]:
    """Return one sample a second of a machine that stays as it is, its card perhaps changing."""
    return [Sample(float(at), host, gpu(at) if callable(gpu) else gpu) for at in range(1, seconds + 1)]


def times(wait_share: float, *, seconds: float = 120.0, images: int = 3000) -> StepTimes:
    """Return steps that waited for such a share of their time."""
    return StepTimes(100, images, wait_share * seconds, (1 - wait_share) * seconds)


SCENE = Scene(workers=2, cache="none", cores=8.0)
SETTINGS = LoaderSettings(workers=2, cache="none", batch=8, accumulation=4)
LIMITS = Limits(
    cores=8.0, host_free_bytes=40 * GIB, shared_free_bytes=8 * GIB, disk_free_bytes=200 * GIB,
    dataset_ram_bytes=4 * GIB, dataset_disk_bytes=30 * GIB, batch_bytes=8 * 640 * 640 * 3,
    gpu_needed_bytes=6 * GIB, gpu_limit_bytes=24 * GIB,
)  # fmt: skip
