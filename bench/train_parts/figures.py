"""Turn runs into figures with intervals: every difference is one of runs of the same round. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.edge_parts.intervals import CONFIDENCE, RESAMPLES, Interval, Target, median_interval
from bench.train_parts.contend import Run
from bench.train_parts.plan import EVERY_THREAD, OURS, PLAIN, Case

TARGETS = {
    "train.overhead": Target("at most", 0.03),
    "train.cpu_overhead": Target("at most", 0.0),
    "resume.map_delta": Target("at most", 0.5),
    "resume.worst_loss": Target("at most", 1.0),
    "ladder.survived": Target("at least", 20),
    "ladder.time_ratio": Target("at most", 1.15),
}
"""`train.overhead` is measured on CUDA; on processors alone our run has to be faster."""


@dataclass(slots=True)
class Rounds:
    """Hold the runs of one case by round and contender, and how well their weights do."""

    case: Case
    runs: list[dict[str, Run]] = field(default_factory=list)
    maps: list[dict[str, dict[str, float]]] = field(default_factory=list)
    start_map: dict[str, float] = field(default_factory=dict)

    def of(self, name: str) -> list[Run]:
        """Return a contender's runs."""
        return [told[name] for told in self.runs if name in told]

    def paired(self, one: str, other: str) -> list[tuple[Run, Run]]:
        """Return the runs of two contenders in the rounds both took part in."""
        return [(told[one], told[other]) for told in self.runs if one in told and other in told]

    def map50s(self, name: str) -> list[float]:
        """Return the mAP50 of each of a contender's weights."""
        return [told[name]["map50"] for told in self.maps if name in told]


def ratio_interval(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Return the mean of the second over the mean of the first, with a bootstrap over pairs.

    Whole rounds are drawn again with replacement, so that a slow minute of the machine stays in both.

    Raises:
        ValueError: no pairs.
    """
    if not pairs:
        raise ValueError("expected at least one round, got none")
    values = np.asarray(pairs, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    sums = values[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    whole = values.sum(axis=0)
    return Interval(
        float(low), float(whole[1] / whole[0]), float(high), CONFIDENCE if len(values) > 1 else 0.0
    )


def case_figures(rounds: Rounds, *, cuda: bool) -> dict[str, Interval]:
    """Return the named figures of a case."""
    name = rounds.case.name
    told: dict[str, Interval] = {}
    both = rounds.paired(PLAIN, OURS)
    if both:
        whole = "train.overhead" if cuda else f"train.{name}.cpu_overhead"
        told[whole] = _minus_one(_ratio(both, lambda run: run.total_s))
        told[f"train.{name}.steady_overhead"] = _minus_one(_ratio(both, lambda run: run.steady_s))
    threads = rounds.paired(EVERY_THREAD, OURS)
    if threads:
        told[f"train.{name}.overhead_vs_every_thread"] = _minus_one(_ratio(threads, lambda run: run.total_s))
    return told


def target_of(name: str) -> Target | None:
    """Return a figure's target; that of processors holds for every case."""
    return TARGETS["train.cpu_overhead"] if name.endswith(".cpu_overhead") else TARGETS.get(name)


def spread(runs: Sequence[Run], of: Callable[[Run], float]) -> Interval:
    """Return the median of one number over a contender's runs, and what encloses it."""
    return median_interval([of(run) for run in runs])


def _ratio(pairs: Sequence[tuple[Run, Run]], of: Callable[[Run], float]) -> Interval:
    return ratio_interval([(of(one), of(other)) for one, other in pairs])


def _minus_one(ratio: Interval) -> Interval:
    return Interval(ratio.low - 1, ratio.mid - 1, ratio.high - 1, ratio.coverage)
