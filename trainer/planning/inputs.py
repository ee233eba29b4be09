"""Hold everything a plan depends on; values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from fleet_contracts.samples import ClassList
from fleet_contracts.training import GpuOffer, RunRecord, StartWeights, TrainPlan
from trainer.planning.recipe import Recipe
from trainer.vram import Calibration, ModelProfile


@dataclass(frozen=True, slots=True)
class SnapshotSize:
    """Say how much there is to train on.

    `size_bytes` is what the images take as files, `pixels` their mean area, boxes are counted per image and
    `box_area` is the mean share of the image that a box covers.
    """

    train_images: int
    val_images: int = 0
    size_bytes: int = 0
    pixels: float = 0.0
    boxes_mean: float = 8.0
    boxes_most: int | None = None
    box_area: float = 0.05


@dataclass(frozen=True, slots=True)
class Network:
    """Say what is known of the network that is trained.

    `key` is the same for all runs of one architecture; it is what they learn from each other by. `profile`
    is None where nothing was traced, `weights_bytes` the size of the start's file.
    """

    key: str = ""
    profile: ModelProfile | None = None
    weights_bytes: int = 0
    calibration: Calibration | None = None
    problem: str = ""
    """Why there is no profile, where one was asked for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound a run in hours and dollars; None sets no bound, for hours the tier's own takes its place.

    `spot` allows machines that may be taken away at any moment.
    """

    hours: float | None = None
    dollars: float | None = None
    dollars_per_hour: float | None = None
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """Hold a run that ended, of the network named by `key`."""

    key: str
    plan: TrainPlan
    record: RunRecord


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """Hold everything a plan depends on; the same inputs always give the same plan."""

    task_id: str
    run_id: str
    snapshot_id: str
    start: StartWeights
    class_list: ClassList
    data: SnapshotSize
    offers: tuple[GpuOffer, ...]
    now: datetime
    recipe: Recipe = field(default_factory=Recipe)
    network: Network = field(default_factory=Network)
    limits: Limits = field(default_factory=Limits)
    history: tuple[Finished, ...] = ()
