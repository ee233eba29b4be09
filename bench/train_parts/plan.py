"""Say what is trained, by whom and in which order. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

PLAIN, EVERY_THREAD, OURS = "plain", "plain-threads", "ours"
"""`YOLO.train()` as it is; the same told to use every thread; our run."""
START_S = 9.0
"""About what a process needs before its first batch on two cores; for the remaining time that is shown."""


@dataclass(frozen=True, slots=True)
class Case:
    """Fix one training, the same for everybody.

    Attributes:
        name: what tells it from the others.
        start: `demo`, for the demo's first champion with a head grown to four classes, or a model yaml.
        images: training images; a fifth as many again are kept for measuring afterwards.
        accumulation: batches of one optimizer step, so that `nbs` is `batch * accumulation`.
        rate: images a second on the machine this was written on, for the time that is shown.
    """

    name: str
    start: str
    size: int
    batch: int
    accumulation: int
    images: int
    epochs: int
    learning_rate: float
    augmentation: str
    workers: int = 0
    rate: float = 10.0

    @property
    def validation_images(self) -> int:
        """Return how many images are kept for measuring afterwards."""
        return max(4, self.images // 5)

    def seconds(self) -> float:
        """Return about how long one run takes."""
        return START_S + self.images * self.epochs / self.rate


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold everything one call measures.

    Attributes:
        rounds: of every case; each round holds each contender once.
        sparse: every so many rounds `EVERY_THREAD` takes part, on which no target rests.
        kills: SIGKILLs of the resume study; 0 leaves it out.
    """

    cases: tuple[Case, ...]
    rounds: int
    sparse: int
    kills: int
    kill_case: Case
    seed: int = 0

    def order(self, case: Case, number: int) -> tuple[str, ...]:
        """Return who runs in a round, in an order drawn from the seed: nobody profits from a place."""
        names = [PLAIN, OURS]
        if number % self.sparse == 0 and case.workers == 0:
            names.append(EVERY_THREAD)
        random.Random(f"{self.seed}/{case.name}/{number}").shuffle(names)
        return tuple(names)

    def seconds(self) -> float:
        """Return about how long everything takes, the data and the start weights left out."""
        turns = sum(
            case.seconds() * len(self.order(case, number))
            for case in self.cases
            for number in range(self.rounds)
        )
        study = 2 * self.kill_case.seconds() + self.kills * (
            START_S + self.kill_case.images / self.kill_case.rate
        )
        return turns + (study if self.kills else 0.0)


FINE_TUNE = Case("fine-tune", "demo", 192, 16, 1, 208, 5, 2e-3, "full", rate=55.0)
FROM_YAML = Case("yolo11n", "yolo11n.yaml", 320, 8, 2, 56, 3, 1e-3, "light", rate=10.0)
KILLED = replace(FINE_TUNE, name="killed", images=96, epochs=10)
CUDA = Case("yolo11s-cuda", "yolo11s.yaml", 640, 32, 2, 512, 8, 1e-3, "full", workers=8, rate=250.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what the command line asked for."""

    quick: bool = False
    kills: int | None = None
    rounds: int | None = None
    cuda: bool = False
    seed: int = 0


def plan_of(asked: Asked) -> Plan:
    """Return the runs that were asked for."""
    if asked.quick:
        tiny = replace(FINE_TUNE, name="quick", size=96, images=32, epochs=3)
        kills = 2 if asked.kills is None else asked.kills
        return Plan((tiny,), asked.rounds or 2, 2, kills, replace(tiny, epochs=4), asked.seed)
    cases: tuple[Case, ...] = (CUDA,) if asked.cuda else (FINE_TUNE, FROM_YAML)
    kills = 10 if asked.kills is None else asked.kills
    rounds = asked.rounds or (6 if asked.cuda else 4)
    return Plan(cases, rounds, 4, kills, KILLED, asked.seed)


def job_values(case: Case, seed: int, *, cuda: bool) -> dict[str, Any]:
    """Return the fields of a `BackendJob` that a case fixes."""
    return {
        "image_size": case.size, "epochs": case.epochs, "batch": case.batch,
        "accumulation": case.accumulation, "learning_rate": case.learning_rate,
        "augmentation": case.augmentation, "seed": seed, "workers": case.workers if cuda else 0,
        "cache": "ram", "precision": "bf16" if cuda else "fp32", "niceness": 0, "export": False,
        "threads": 0,
    }  # fmt: skip
