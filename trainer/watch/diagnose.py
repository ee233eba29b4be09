"""Say what holds a training back, from samples of the machine and the times of its steps.

Pure: numbers in, a diagnosis out. Every number a diagnosis rests on is in its evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from fleet_contracts.training import WatchPolicy
from trainer.watch.sample import Sample
from trainer.watch.timings import StepTimes

Kind = Literal["loader", "disk", "cpu-augmentation", "small-batch", "memory-near-limit", "fine"]
Memory = Literal["", "device", "host"]
_CORES_BUSY = 0.9
"""Share of the allowed cores' time from which on more loader processes would find no core."""
_WORKER_BLOCKED = 0.3
"""Share of a loading process's time in waiting for the disk from which on the disk is the cause."""
_ROOMY = 0.5
"""Share of the card's memory below which a batch of twice the size would fit."""
_OURS_LEAST = 0.2
"""Share of the host's memory that the training must take itself before it could free any by stepping down."""
_LEAK_AHEAD_SECONDS = 600.0
_LEAK_LEAST_SAMPLES = 60
_LEAK_LEAST_SHARE = 0.7
_LEAK_FIT = 0.9


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Hold what was found; `memory` says whose memory is near its limit."""

    kind: Kind
    why: str
    evidence: dict[str, float] = field(default_factory=dict)
    memory: Memory = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """Hold what the samples are read against: loader processes, the image cache in use, allowed cores."""

    workers: int
    cache: Literal["none", "ram", "disk"]
    cores: float


@dataclass(frozen=True, slots=True)
class Means:
    """Hold what a window of samples comes to; None where there is no card or it does not tell."""

    seconds: float
    cpu_share: float
    io_wait: float
    disk_read_per_second: float
    gpu_utilisation: float | None
    gpu_full_share: float | None
    power_watts: float | None


def means_of(samples: Sequence[Sample]) -> Means:
    """Return the means of a window; of nothing, zeros."""
    if not samples:
        return Means(0.0, 0.0, 0.0, 0.0, None, None, None)
    # The first sample's reading speaks of the time before it, as every one's does: n samples, n periods.
    period = (samples[-1].at - samples[0].at) / max(len(samples) - 1, 1)
    seconds = period * len(samples)
    cards = [one.gpu for one in samples if one.gpu is not None]
    used = [one.utilisation for one in cards if one.utilisation is not None]
    power = [one.power_watts for one in cards if one.power_watts is not None]
    return Means(
        seconds=seconds,
        cpu_share=fmean(one.host.cpu_share for one in samples),
        io_wait=fmean(one.host.io_wait for one in samples),
        disk_read_per_second=sum(one.host.disk_read_bytes for one in samples) / max(seconds, 1e-9),
        gpu_utilisation=fmean(used) if used else None,
        gpu_full_share=fmean(one.full_share for one in cards) if cards else None,
        power_watts=fmean(power) if power else None,
    )


def diagnose(samples: Sequence[Sample], times: StepTimes, scene: Scene, policy: WatchPolicy) -> Diagnosis:
    """Say what holds the training back.

    Memory comes first, since it ends a run where the rest only slows it. A machine with a card alarms when
    the card is used too little; one without alarms when its steps wait for data.

    Args:
        samples: a window, oldest first.
        times: the steps done in the same window.
        scene: the settings in force.
        policy: what counts as too little, too much and long.
    """
    near = near_limit(samples, policy)
    if near is not None:
        return near
    means = means_of(samples)
    evidence = _evidence(means, times, scene)
    if means.seconds < policy.long_seconds or times.steps == 0:
        return Diagnosis("fine", "not watched for long enough to judge", evidence)
    low = means.gpu_utilisation is not None and means.gpu_utilisation < policy.low_utilisation
    waits = times.wait_share > policy.high_wait
    if means.gpu_utilisation is not None and not low:
        return Diagnosis("fine", f"the card is {_percent(means.gpu_utilisation)} busy", evidence)
    if waits:
        return _why_it_waits(means, times, scene, evidence)
    if not low:
        return Diagnosis("fine", f"steps wait {_percent(times.wait_share)} of their time for data", evidence)
    return _why_the_card_idles(means, evidence)


def near_limit(samples: Sequence[Sample], policy: WatchPolicy) -> Diagnosis | None:
    """Say that a memory has been near its limit for long, or grows steadily towards it; None when neither."""
    cards = [one for one in samples if one.gpu is not None]
    looks: tuple[tuple[Memory, Sequence[Sample], Callable[[Sample], float]], ...] = (
        ("device", cards, _card_share),
        ("host", _ours(samples), _host_share),
    )
    for memory, seen, share_of in looks:
        if not seen:
            continue
        shares = [share_of(one) for one in seen]
        lately = [share for one, share in zip(seen, shares, strict=True)
                  if seen[-1].at - one.at <= policy.long_seconds]  # fmt: skip
        covered = seen[-1].at - seen[0].at >= policy.long_seconds * 0.9
        evidence = {"share": round(shares[-1], 4), "least_share": round(min(lately), 4)}
        if covered and min(lately) > policy.near_limit:
            full = f"over {_percent(policy.near_limit)} full for {policy.long_seconds:g} s"
            why = f"the {memory}'s memory has been {full}"
            return Diagnosis("memory-near-limit", why, evidence, memory)
        left = _seconds_to_limit([one.at for one in seen], shares)
        if left is not None:
            why = f"the {memory}'s memory grows steadily and would be full in {left:.0f} s"
            return Diagnosis("memory-near-limit", why, {**evidence, "seconds_left": round(left, 1)}, memory)
    return None


def _seconds_to_limit(at: Sequence[float], shares: Sequence[float]) -> float | None:
    """Return when a steady growth reaches the limit, if it is steady and the moment is near."""
    if len(at) < _LEAK_LEAST_SAMPLES or shares[-1] < _LEAK_LEAST_SHARE:
        return None
    mean_at, mean_share = fmean(at), fmean(shares)
    spread = sum((moment - mean_at) ** 2 for moment in at)
    varied = sum((share - mean_share) ** 2 for share in shares)
    together = sum((m - mean_at) * (s - mean_share) for m, s in zip(at, shares, strict=True))
    if spread <= 0 or varied <= 0 or together <= 0 or together**2 / (spread * varied) < _LEAK_FIT:
        return None
    left = (1.0 - shares[-1]) / (together / spread)
    return left if left < _LEAK_AHEAD_SECONDS else None


def _why_it_waits(means: Means, times: StepTimes, scene: Scene, evidence: dict[str, float]) -> Diagnosis:
    waited = f"steps wait {_percent(times.wait_share)} of their time for data"
    blocked = means.io_wait * scene.cores / max(scene.workers, 1)
    if scene.cache != "ram" and blocked > _WORKER_BLOCKED:
        why = f"{waited}, and its readers spend {_percent(min(blocked, 1.0))} of theirs waiting for the disk"
        return Diagnosis("disk", why, evidence)
    if means.cpu_share >= _CORES_BUSY:
        why = f"{waited}, and the cores are {_percent(means.cpu_share)} busy decoding and augmenting"
        return Diagnosis("cpu-augmentation", why, evidence)
    free = (1.0 - means.cpu_share) * scene.cores
    why = f"{waited} from {scene.workers} loader processes while {free:.1f} of {scene.cores:g} cores are free"
    return Diagnosis("loader", why, evidence)


def _why_the_card_idles(means: Means, evidence: dict[str, float]) -> Diagnosis:
    used = f"the card is only {_percent(means.gpu_utilisation or 0.0)} busy though data are there in time"
    full = means.gpu_full_share
    if full is not None and full < _ROOMY:
        return Diagnosis("small-batch", f"{used}, and {_percent(1.0 - full)} of its memory is free", evidence)
    return Diagnosis("fine", f"{used}; its memory has no room for a larger batch", evidence)


def _evidence(means: Means, times: StepTimes, scene: Scene) -> dict[str, float]:
    numbers = {
        "seconds": means.seconds, "wait_share": times.wait_share,
        "images_per_second": times.images_per_second,
        "cpu_share": means.cpu_share, "io_wait": means.io_wait, "cores": scene.cores,
        "disk_read_per_second": means.disk_read_per_second, "gpu_utilisation": means.gpu_utilisation,
        "gpu_full_share": means.gpu_full_share,
    }  # fmt: skip
    return {name: round(value, 4) for name, value in numbers.items() if value is not None}


def _ours(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples, or none where it is others who fill the host's memory."""
    if not samples or samples[-1].host.rss_bytes < _OURS_LEAST * samples[-1].host.total_bytes:
        return ()
    return samples


def _card_share(sample: Sample) -> float:
    return sample.gpu.full_share if sample.gpu is not None else 0.0


def _host_share(sample: Sample) -> float:
    return 1.0 - sample.host.free_bytes / max(sample.host.total_bytes, 1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
