"""Describe the work a training child does and what it says about it; no torch, no ultralytics.

The parent writes a `BackendJob` or `ExportJob` as `job.json` into the job's `out` folder and starts the
child on it; the child answers with lines in `events.jsonl` and, last, with `backend-result.json`.

    >>> job = BackendJob(start="yolo11n.yaml", dataset="/data", out="/out", class_names=("scratch",),
    ...                  image_size=160, epochs=10)
    >>> job.batch
    16
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fleet_contracts.judging import InputSpec, ModelVariant, ParityReport
from fleet_contracts.training import Precision, RunEventKind, Tracking, WatchPolicy
from trainer.memory.simulator import SimulatedMemory

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ImageSize = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]
ClassNames = Annotated[tuple[str, ...], Field(min_length=1)]

JOB_FILE = "job.json"
EVENTS_FILE = "events.jsonl"
LOG_FILE = "child.log"
RESULT_FILE = "backend-result.json"
FAILURE_FILE = "backend-failure.json"
STEPS_FILE = "steps"
"""Touched while a training steps; see `trainer.standing_still`."""
CHECKPOINT_FILE = "checkpoint.pt"
PREVIOUS_FILE = "checkpoint-previous.pt"
"""The checkpoint before the last, for when that one cannot be read."""
WEIGHTS_FILE = "weights.pt"
ONNX_FILE = "model.onnx"


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BackendJob(_Settings):
    """Train from `start` on a dataset folder, then export and compare, all inside `out`.

    `start` is a model yaml (a file, or a name that ultralytics knows such as `yolo11n.yaml`) or a `.pt`.
    `dataset` is a folder written by `trainer.dataset`. `batch` counts images over all devices. `threads` 0
    means every core. `warmup_epochs` raises the rate from zero. `augmentation_values` replaces single
    ultralytics settings of the chosen level (`fliplr`, `mosaic`, `hsv_v`, ...). Mosaic and mixup are switched
    off, whatever is asked, when an image was labelled under a shorter class list, since a mixed image would
    have no one list (law 9).
    With `resume` a checkpoint in `out` is continued; without it an old one is removed.
    """

    kind: Literal["train"] = "train"
    start: str
    dataset: Path
    out: Path
    class_names: ClassNames
    image_size: ImageSize
    epochs: Positive
    batch: Positive = 16
    accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    final_lr_share: Share = 0.05
    warmup_epochs: Annotated[float, Field(ge=0.0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0.0)] = 5e-4
    optimizer: Literal["AdamW", "SGD", "Adam", "MuSGD"] = "AdamW"
    freeze_layers: Count = 0
    augmentation: Literal["none", "light", "full", "heavy"] = "light"
    augmentation_values: dict[str, float] = Field(default_factory=dict)
    seed: int = 0
    threads: Count = 0
    workers: Count = 0
    cache: Literal["none", "ram", "disk"] = "ram"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    resume: bool = True
    must_resume: bool = False
    """Whether to refuse, rather than begin anew, where no checkpoint can be continued: `start` then lends its
    shapes alone."""
    export: bool = True
    parity_images: Count = 8
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    niceness: Annotated[int, Field(ge=0, le=19)] = 10
    lineage: str = ""
    """What names the start in checkpoints, where the start file itself may be another on another machine."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of a CUDA card's memory the child may take; 1.0 sets no cap."""
    devices: Positive = 1
    compile: bool = False
    deterministic: bool = False
    validate_every: Count = 0
    """Epochs between two measurements of the loss on the validation split; 0 measures none."""
    checkpoint_minutes: Annotated[float, Field(ge=0.0)] = 0.0
    """Minutes after which a checkpoint is written within an epoch too; 0 writes at epochs only."""
    expandable_segments: bool = True
    """Ask CUDA's allocator for segments that grow, which leaves less memory unusable between blocks."""
    precisions: tuple[Precision, ...] = ("fp32",)
    format_seconds: Annotated[float, Field(gt=0.0)] = 45.0
    """For making one format: calibrating, choosing and searching together."""
    tracking: Tracking | None = None
    watch: WatchPolicy = WatchPolicy()
    host_budget_bytes: Count = 0
    """Address space the child may take beyond what its libraries map; 0 sets no cap. Not for CUDA, which maps
    far more than it takes."""
    simulated_memory: SimulatedMemory | None = None
    """A card to pretend to train on, where there is none: shows the ladder, measures nothing."""


class ExportJob(_Settings):
    """Turn a `.pt` into the ONNX file that ships, without training."""

    kind: Literal["export"] = "export"
    start: Path
    out: Path
    class_names: ClassNames
    image_size: ImageSize
    parity_folder: Path | None = None
    parity_images: Count = 8
    threads: Count = 0
    opset: Annotated[int, Field(ge=13, le=20)] = 17
    niceness: Annotated[int, Field(ge=0, le=19)] = 10


AnyJob = Annotated[BackendJob | ExportJob, Field(discriminator="kind")]
_JOBS: TypeAdapter[BackendJob | ExportJob] = TypeAdapter(AnyJob)


def read_job(path: Path) -> BackendJob | ExportJob:
    """Read the job a child was started on."""
    return _JOBS.validate_json(path.read_bytes())


class BackendResult(_Settings):
    """Name what a child left behind; paths lie in the job's `out` folder."""

    weights: Path
    weights_sha256: str
    onnx: Path | None = None
    onnx_sha256: str | None = None
    input_spec: InputSpec | None = None
    parity: ParityReport | None = None
    variants: tuple[ModelVariant, ...] = ()
    """The other number formats, by the names of their files."""
    class_names: tuple[str, ...]
    epochs: Count = 0
    device: str = "cpu"
    versions: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0


class BackendFailure(_Settings):
    """Say why a child gave up; `resumable` is false when the same job would fail again.

    `kind` is set when memory ran out (`error` is then `MemoryExhausted`, or `MemoryNear` before it did), and
    with it what `Trouble` says: moment, epoch from 1, step, bytes; `cause` narrows it, `origin` is its type.
    """

    error: str
    message: str
    resumable: bool = True
    kind: Literal["", "device", "host"] = ""
    moment: str = ""
    epoch: Count = 0
    step: Count = 0
    seen_bytes: Count = 0
    limit_bytes: Count = 0
    asked_bytes: Count = 0
    cause: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class BackendEvent:
    """Report one step of a child: kinds are those of `RunEvent`. `epoch` counts from 1 when finished.

    `checkpoint` says that a part of the running epoch is kept; it is for the parent alone.
    """

    kind: RunEventKind | Literal["checkpoint"]
    epoch: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        """Write the event as one line of JSON; what is not a number (nan, inf) becomes null."""
        return json.dumps({"kind": self.kind, "epoch": self.epoch, "data": _plain(self.data)}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> BackendEvent:
        """Read an event back."""
        row = json.loads(line)
        return cls(row["kind"], row["epoch"], row["data"])


def _plain(value: Any) -> Any:
    """Return what JSON and the run's documents can hold: both know finite numbers alone."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a power cut, never meets half of it."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
